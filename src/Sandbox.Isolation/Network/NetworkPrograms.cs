using System.Diagnostics;

namespace Sandbox.Isolation.Network;

/// <summary>
/// Runs `nft` and `ip` inside of a namespace, with what they shall do on their standard input. Only numbers and addresses that this program has formatted itself are ever in it. They are entered by `nsenter`: a process
/// that was started from a thread inside might bring the runtime to start threads there.
/// </summary>
internal static class NetworkPrograms
{
    private static readonly string[] Folders = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"];
    private static readonly TimeSpan Deadline = TimeSpan.FromSeconds(20);

    /// <summary>Where a program is, or <see langword="null"/>.</summary>
    public static string? Find(string name) => Folders.Select(f => Path.Combine(f, name)).FirstOrDefault(File.Exists);

    /// <summary>Runs one to its end and returns what it printed.</summary>
    /// <exception cref="IOException">It is not there, failed, or did not end in time.</exception>
    public static async Task<string> RunAsync(string namespacePath, string program, string[] arguments, string input, CancellationToken cancellationToken = default)
    {
        var start = new ProcessStartInfo(Require("nsenter"), ["--net=" + namespacePath, "--", Require(program), .. arguments])
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            WorkingDirectory = "/",
        };
        start.Environment.Clear();
        start.Environment["PATH"] = string.Join(':', Folders);
        start.Environment["LC_ALL"] = "C";
        using var process = Start(start);
        using var limit = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        limit.CancelAfter(Deadline);
        try
        {
            var output = process.StandardOutput.ReadToEndAsync(limit.Token);
            var errors = process.StandardError.ReadToEndAsync(limit.Token);
            try
            {
                await process.StandardInput.WriteAsync(input.AsMemory(), limit.Token);
                process.StandardInput.Close();
            }
            catch (IOException)
            {
                // It has ended before it read all; what it says follows.
            }

            await process.WaitForExitAsync(limit.Token);
            var said = (await errors).Trim();
            return process.ExitCode == 0 ? await output : throw new IOException($"'{program} {string.Join(' ', arguments)}' in {namespacePath} failed with exit code {process.ExitCode}: {said}");
        }
        catch (OperationCanceledException e)
        {
            process.Kill();
            cancellationToken.ThrowIfCancellationRequested();
            throw new IOException($"'{program}' in {namespacePath} did not end within {Deadline.TotalSeconds:0} s.", e);
        }
    }

    private static Process Start(ProcessStartInfo start)
    {
        try
        {
            return Process.Start(start)!;
        }
        catch (System.ComponentModel.Win32Exception e)
        {
            throw new IOException($"{start.FileName} cannot be started: {e.Message}", e);
        }
    }

    private static string Require(string program) =>
        Find(program) ?? throw new IOException($"there is no program '{program}'; apt-get install {(program switch { "nft" => "nftables", "ip" => "iproute2", _ => "util-linux" })}");
}
