using System.Diagnostics;

namespace Sandbox.Templates;

/// <summary>Runs the host's tools, with their output in a log file that errors name.</summary>
internal sealed class ToolRunner(string logFile)
{
    private readonly Lock _lock = new();

    /// <summary>Runs a program to its end.</summary>
    /// <param name="directory">Working directory.</param>
    /// <param name="line">Sees each line it prints.</param>
    /// <param name="cancellationToken">Kills it and what it started.</param>
    /// <param name="command">Program and arguments.</param>
    /// <returns>What it wrote to standard output.</returns>
    public async Task<string> RunAsync(string directory, Action<string>? line, CancellationToken cancellationToken, params string[] command)
    {
        var start = new ProcessStartInfo(command[0]) { WorkingDirectory = directory, RedirectStandardOutput = true, RedirectStandardError = true, RedirectStandardInput = true };
        foreach (var argument in command[1..])
        {
            start.ArgumentList.Add(argument);
        }

        start.Environment["DEBIAN_FRONTEND"] = "noninteractive";
        start.Environment["LC_ALL"] = "C.UTF-8";
        Log("$ " + string.Join(' ', command));
        Process process;
        try
        {
            process = Process.Start(start)!;
        }
        catch (System.ComponentModel.Win32Exception e)
        {
            throw new TemplateException($"Cannot run {command[0]}: {e.Message}. {HostTools.HintFor(command[0])}", e);
        }

        using (process)
        {
            process.StandardInput.Close();
            var output = new List<string>();
            var last = "";
            var stdout = PumpAsync(process.StandardOutput, l =>
            {
                output.Add(l);
                line?.Invoke(l);
            });
            var stderr = PumpAsync(process.StandardError, l =>
            {
                last = l;
                line?.Invoke(l);
            });
            try
            {
                await process.WaitForExitAsync(cancellationToken);
            }
            catch (OperationCanceledException)
            {
                process.Kill(entireProcessTree: true);
                await process.WaitForExitAsync(CancellationToken.None);
                throw;
            }

            await Task.WhenAll(stdout, stderr);
            return process.ExitCode == 0
                ? string.Join('\n', output)
                : throw new TemplateException($"{command[0]} failed with exit code {process.ExitCode}: {last}. The whole log is {logFile}");
        }
    }

    private async Task PumpAsync(StreamReader reader, Action<string> line)
    {
        while (await reader.ReadLineAsync() is { } text)
        {
            Log(text);
            line(text);
        }
    }

    private void Log(string text)
    {
        lock (_lock)
        {
            File.AppendAllText(logFile, text + "\n");
        }
    }
}
