using Sandbox.Storage.TestSilo;
using Sandbox.TestSupport;

namespace Sandbox.Storage.Tests.Cluster;

/// <summary>A silo in a process of its own, which can be killed like one.</summary>
internal sealed class SiloProcess : IAsyncDisposable
{
    private static readonly TimeSpan Patience = TimeSpan.FromMinutes(2);
    private readonly ChildProcess _process;

    private SiloProcess(ChildProcess process, int port) => (_process, Port) = (process, port);

    /// <summary>Where it speaks to other silos: part of its address.</summary>
    public int Port { get; }

    public string Output => _process.Output;

    public static async Task<SiloProcess> StartAsync(string redis, string postgres, string cluster)
    {
        for (var attempt = 1; ; attempt++)
        {
            var ready = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
            var port = Loopback.FreePort();
            var process = await ChildProcess.StartAsync(
                [Environment.ProcessPath is { } path && Path.GetFileName(path) == "dotnet" ? path : "dotnet", typeof(ICounterGrain).Assembly.Location, redis, postgres, cluster, $"{port}", $"{Loopback.FreePort()}"],
                onLine: line =>
                {
                    if (line == "ready")
                    {
                        ready.TrySetResult();
                    }
                });
            if (await Task.WhenAny(ready.Task, process.Exited, Task.Delay(Patience)) == ready.Task)
            {
                return new SiloProcess(process, port);
            }

            var output = process.Output;
            await process.DisposeAsync();
            if (attempt == 5 || !output.Contains("Address already in use", StringComparison.Ordinal))
            {
                throw new InvalidOperationException($"The silo did not start:{Environment.NewLine}{output}");
            }
        }
    }

    /// <summary>kill -9.</summary>
    public async Task CrashAsync()
    {
        _process.Send(Signal.Kill);
        await _process.Exited;
    }

    /// <summary>Asks it to leave the cluster and end.</summary>
    public Task StopAsync() => _process.StopAsync(Signal.Terminate, Patience);

    public ValueTask DisposeAsync() => _process.DisposeAsync();
}
