using System.Diagnostics;
using System.Text;

namespace Sandbox.EndToEnd.Tests.Harness;

/// <summary>Runs the <c>sandbox</c> program to its end, as a shell would.</summary>
public static class CommandLine
{
    public static Task<CommandResult> RunAsync(IReadOnlyDictionary<string, string> environment, string directory, params string[] arguments) =>
        RunProgramAsync(SandboxServer.Program, environment, directory, arguments);

    /// <summary>Runs another program, in the same way.</summary>
    public static async Task<CommandResult> RunProgramAsync(string program, IReadOnlyDictionary<string, string> environment, string directory, params string[] arguments)
    {
        var start = new ProcessStartInfo(program)
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            RedirectStandardInput = true,
            WorkingDirectory = directory,
        };
        foreach (var argument in arguments)
        {
            start.ArgumentList.Add(argument);
        }

        foreach (var (name, value) in environment)
        {
            start.Environment[name] = value;
        }

        using var process = Process.Start(start)!;
        process.StandardInput.Close();
        var stdout = ReadAsync(process.StandardOutput.BaseStream);
        var stderr = ReadAsync(process.StandardError.BaseStream);
        using var deadline = new CancellationTokenSource(TimeSpan.FromMinutes(5));
        try
        {
            await process.WaitForExitAsync(deadline.Token);
        }
        catch (OperationCanceledException)
        {
            process.Kill(entireProcessTree: true);
            throw new TimeoutException($"{program} {string.Join(' ', arguments)} did not end in five minutes.");
        }

        return new CommandResult(process.ExitCode, await stdout, await stderr);
    }

    private static async Task<string> ReadAsync(Stream stream)
    {
        using var reader = new StreamReader(stream, Encoding.UTF8);
        return await reader.ReadToEndAsync();
    }
}

public sealed record CommandResult(int ExitCode, string Stdout, string Stderr);
