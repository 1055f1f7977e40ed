using Microsoft.Extensions.Logging;
using Sandbox.Abstractions;

namespace Sandbox.Grains.Hosts.Runtime;

/// <summary>Capacity, and what is kept of sessions on this host.</summary>
internal sealed partial class HostRuntime
{
    private readonly Dictionary<string, Held> _leases = new(StringComparer.Ordinal);

    /// <summary>Sum over the leases, kept beside them: it is asked for at every start.</summary>
    private int _leasedMiB;

    /// <summary>Reserves capacity, or says that there is none. Fences: see <see cref="IHostGrain.TryReserveAsync"/>.</summary>
    public async Task<bool> TryReserveAsync(HostLease lease)
    {
        List<LiveMicroVm> stale;
        lock (_gate)
        {
            if (_draining)
            {
                return false;
            }

            Ledger.Raise(lease.SessionId, lease.Generation);
            stale = [.. _machines.Of(lease.SessionId).Where(m => m.Generation < lease.Generation)];
        }

        foreach (var old in stale)
        {
            old.RequestStop($"its generation {old.Generation} was replaced by {lease.Generation}");
        }

        await Task.WhenAll(stale.Select(m => m.Removed));
        lock (_gate)
        {
            Unlease(lease.SessionId);
            if (_leases.Count >= _options.EffectiveMaxMicroVms || LeasedMiB() + lease.MemoryMiB > _options.EffectiveMemoryMiB)
            {
                return false;
            }

            _leases[lease.SessionId] = new Held(lease, _clock.GetUtcNow());
            _leasedMiB += lease.MemoryMiB;
            return true;
        }
    }

    /// <summary>Gives capacity back.</summary>
    public void Release(string sessionId, long generation)
    {
        lock (_gate)
        {
            if (_leases.TryGetValue(sessionId, out var held) && held.Lease.Generation <= generation)
            {
                Unlease(sessionId);
            }
        }
    }

    /// <summary>Removes a session from this host for good: its microVM, disk and outputs. A later start of it is refused.</summary>
    public async Task ForgetSessionAsync(string sessionId)
    {
        if (!SandboxIds.IsSession(sessionId))
        {
            throw SandboxException.NotFound($"'{sessionId}' is not a session id.");
        }

        Ledger.Forget(sessionId);
        IReadOnlyList<LiveMicroVm> live;
        lock (_gate)
        {
            live = _machines.Of(sessionId);
        }

        foreach (var machine in live)
        {
            machine.RequestStop("its session was removed");
        }

        await Task.WhenAll(live.Select(m => m.Removed));
        Release(sessionId, long.MaxValue);
        await Logs.DeleteSessionAsync(sessionId);
        _suspended.Clear(sessionId);
        var directory = _options.SessionDirectory(sessionId);
        if (Directory.Exists(directory))
        {
            Directory.Delete(directory, recursive: true);
        }

        _logger.LogInformation("Session {Session} was removed from host {Host}", sessionId, HostId);
    }

    private int LeasedMiB() => _leasedMiB;

    private void Unlease(string sessionId)
    {
        if (_leases.Remove(sessionId, out var held))
        {
            _leasedMiB -= held.Lease.MemoryMiB;
        }
    }

    private sealed record Held(HostLease Lease, DateTimeOffset At);
}
