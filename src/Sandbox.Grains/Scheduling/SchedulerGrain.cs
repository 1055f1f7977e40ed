using Sandbox.Abstractions;

namespace Sandbox.Grains.Scheduling;

/// <summary>Keeps the newest report of each host and chooses by them. Stores nothing: hosts report every few seconds.</summary>
internal sealed class SchedulerGrain(IServiceProvider services) : Grain, ISchedulerGrain
{
    private static readonly TimeSpan Memory = TimeSpan.FromMinutes(5);
    private readonly Dictionary<string, HostReport> _hosts = new(StringComparer.Ordinal);
    private readonly TimeProvider _clock = SandboxClock.Of(services);

    public Task ReportAsync(HostReport report)
    {
        // The scheduler's own clock decides what is silent; clocks of hosts may differ.
        _hosts[report.HostId] = report with { At = _clock.GetUtcNow() };
        return Task.CompletedTask;
    }

    public Task<Placement> PlaceAsync(PlacementRequest request)
    {
        var placement = PlacementPolicy.Choose(request, _hosts.Values, _clock.GetUtcNow());

        // Until the host's next report the choice itself is the best knowledge: without it a burst would all go to one host.
        var host = _hosts[placement.HostId];
        _hosts[placement.HostId] = host with { MemoryLeasedMiB = host.MemoryLeasedMiB + request.MemoryMiB, Devices = DevicePlacement.Without(host.Devices, placement.Devices) };
        return Task.FromResult(placement);
    }

    public Task<IReadOnlyList<HostReport>> ListHostsAsync()
    {
        var oldest = _clock.GetUtcNow() - Memory;
        foreach (var gone in _hosts.Values.Where(h => h.At < oldest).ToList())
        {
            _hosts.Remove(gone.HostId);
        }

        return Task.FromResult<IReadOnlyList<HostReport>>([.. _hosts.Values.OrderBy(h => h.HostId, StringComparer.Ordinal)]);
    }
}
