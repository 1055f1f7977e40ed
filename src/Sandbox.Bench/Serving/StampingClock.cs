using System.Collections.Concurrent;
using System.Diagnostics;
using Microsoft.Extensions.DependencyInjection;
using Sandbox.Grains;

namespace Sandbox.Bench.Serving;

/// <summary>
/// The clock of a host in this process, which remembers when it was read. A host reads it once for each event of output as it takes it from the guest's channel, before the log and everything after it,
/// and keeps it with the event to the millisecond: so the moment of arrival on the raw channel is found again from the event.
/// </summary>
internal sealed class StampingClock : TimeProvider
{
    private readonly ConcurrentDictionary<long, long> _reads = new();

    /// <summary>Adds it to a server that is being built.</summary>
    public void AddTo(IServiceCollection services) => services.AddKeyedSingleton<TimeProvider>(SandboxClock.Key, this);

    /// <inheritdoc/>
    public override DateTimeOffset GetUtcNow()
    {
        var now = base.GetUtcNow();

        // The first read in a millisecond counts: should another have come before the event's, the latency is overstated, never understated.
        _reads.TryAdd(now.ToUnixTimeMilliseconds(), Stopwatch.GetTimestamp());
        return now;
    }

    /// <summary>When it was read for an event that has this time (ticks of <see cref="Stopwatch"/>).</summary>
    public long ReadFor(DateTimeOffset time) => _reads.TryGetValue(time.ToUnixTimeMilliseconds(), out var at) ? at : throw new InvalidOperationException($"The clock was not read at {time:O}.");
}
