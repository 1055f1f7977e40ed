using System.Collections.Concurrent;
using Sandbox.Abstractions;

namespace Sandbox.Grains.Hosts.Connections;

/// <summary>What callers hold open in one machine: connections to ports, and watches. All end with it.</summary>
internal sealed class ConnectionTable
{
    /// <summary>Most watches of a session.</summary>
    public const int MaxWatches = 64;

    private long _lastWatch;
    private int _ports;
    private int _watches;

    public ConcurrentDictionary<string, LivePort> Ports { get; } = new(StringComparer.Ordinal);

    public ConcurrentDictionary<long, LiveWatch> Watches { get; } = new();

    /// <summary>Opens a connection, if there is room for one more.</summary>
    public async Task<LivePort> AddPortAsync(Func<Task<LivePort>> open)
    {
        if (Interlocked.Increment(ref _ports) > IPortGrain.MaxConnections)
        {
            Interlocked.Decrement(ref _ports);
            throw new SandboxException(SandboxErrorCode.ResourceExhausted, $"The session has {IPortGrain.MaxConnections} connections to ports, the most there may be. Close one.");
        }

        try
        {
            var port = await open();
            Ports[port.Id] = port;
            return port;
        }
        catch
        {
            Interlocked.Decrement(ref _ports);
            throw;
        }
    }

    /// <summary>Opens a watch, if there is room for one more; returns its number.</summary>
    public async Task<long> AddWatchAsync(Func<Task<LiveWatch>> open)
    {
        if (Interlocked.Increment(ref _watches) > MaxWatches)
        {
            Interlocked.Decrement(ref _watches);
            throw new SandboxException(SandboxErrorCode.ResourceExhausted, $"The session has {MaxWatches} watches, the most there may be. End one.");
        }

        try
        {
            var watch = await open();
            var number = Interlocked.Increment(ref _lastWatch);
            Watches[number] = watch;
            return number;
        }
        catch
        {
            Interlocked.Decrement(ref _watches);
            throw;
        }
    }

    public async Task RemovePortAsync(string id)
    {
        if (Ports.TryRemove(id, out var port))
        {
            Interlocked.Decrement(ref _ports);
            await port.CloseAsync();
        }
    }

    public async Task RemoveWatchAsync(long number)
    {
        if (Watches.TryRemove(number, out var watch))
        {
            Interlocked.Decrement(ref _watches);
            await watch.CloseAsync();
        }
    }

    /// <summary>Ends all connections to ports.</summary>
    public Task RemovePortsAsync() => Task.WhenAll(Ports.Keys.Select(RemovePortAsync));

    /// <summary>Ends what nobody has used for so long.</summary>
    public Task ExpireAsync(TimeSpan unused) => Task.WhenAll([
        .. Ports.Where(p => p.Value.Unused > unused).Select(p => RemovePortAsync(p.Key)),
        .. Watches.Where(w => w.Value.Unused > unused).Select(w => RemoveWatchAsync(w.Key)),
    ]);

    /// <summary>The machine is gone.</summary>
    public Task RemoveAllAsync() => Task.WhenAll([.. Ports.Keys.Select(RemovePortAsync), .. Watches.Keys.Select(RemoveWatchAsync)]);
}
