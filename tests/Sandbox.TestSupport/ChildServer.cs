using System.Collections.Concurrent;
using System.Diagnostics;
using System.Net;
using System.Net.Sockets;

namespace Sandbox.TestSupport;

/// <summary>A server process for a test. The kernel kills it if the test process dies, however that happens.</summary>
public sealed class ChildServer : IAsyncDisposable
{
    private static readonly BlockingCollection<(ProcessStartInfo Start, TaskCompletionSource<Process> Result)> Requests = [];
    private readonly Process _process;
    private readonly ConcurrentQueue<string> _output = new();

    static ChildServer() => new Thread(Spawn) { IsBackground = true, Name = "test servers" }.Start();

    private ChildServer(Process process)
    {
        _process = process;
        _process.OutputDataReceived += (_, e) => Keep(e.Data);
        _process.ErrorDataReceived += (_, e) => Keep(e.Data);
        _process.BeginOutputReadLine();
        _process.BeginErrorReadLine();
    }

    /// <summary>Its last lines of output.</summary>
    public string Output => string.Join('\n', _output);

    /// <summary>Whether it runs.</summary>
    public bool IsRunning => !_process.HasExited;

    /// <summary>Starts a program that dies with this process, as another user if one is named.</summary>
    public static async Task<ChildServer> StartAsync(string? user, params string[] command)
    {
        var start = new ProcessStartInfo("setpriv") { RedirectStandardOutput = true, RedirectStandardError = true, WorkingDirectory = "/tmp" };
        string[] identity = user is not null && Environment.IsPrivilegedProcess ? ["--reuid", user, "--regid", user, "--clear-groups"] : [];
        foreach (var argument in (string[])[.. identity, "--pdeathsig", "KILL", .. command])
        {
            start.ArgumentList.Add(argument);
        }

        // The parent-death signal belongs to the thread that forked, so it must be one that lives as long as the process.
        var result = new TaskCompletionSource<Process>(TaskCreationOptions.RunContinuationsAsynchronously);
        Requests.Add((start, result));
        return new ChildServer(await result.Task);
    }

    /// <summary>A loopback port that was free a moment ago.</summary>
    public static int FreePort()
    {
        using var listener = new TcpListener(IPAddress.Loopback, 0);
        listener.Start();
        return ((IPEndPoint)listener.LocalEndpoint).Port;
    }

    /// <summary>Waits until something listens on a loopback port.</summary>
    public async Task UntilListeningAsync(int port)
    {
        var clock = Stopwatch.StartNew();
        while (true)
        {
            try
            {
                using var client = new TcpClient();
                await client.ConnectAsync(IPAddress.Loopback, port);
                return;
            }
            catch (SocketException) when (IsRunning && clock.Elapsed < TimeSpan.FromMinutes(1))
            {
                await Task.Delay(50);
            }
            catch (SocketException)
            {
                throw new InvalidOperationException($"The server does not listen on port {port}:\n{Output}");
            }
        }
    }

    /// <summary>Kills it.</summary>
    public async ValueTask DisposeAsync()
    {
        if (IsRunning)
        {
            _process.Kill(entireProcessTree: true);
        }

        await _process.WaitForExitAsync();
        _process.Dispose();
    }

    private void Keep(string? line)
    {
        if (line is not null)
        {
            _output.Enqueue(line);
            while (_output.Count > 50)
            {
                _output.TryDequeue(out _);
            }
        }
    }

    private static void Spawn()
    {
        foreach (var (start, result) in Requests.GetConsumingEnumerable())
        {
            try
            {
                result.SetResult(Process.Start(start)!);
            }
            catch (Exception e)
            {
                result.SetException(e);
            }
        }
    }
}
