using Microsoft.Extensions.Logging;
using Sandbox.Abstractions;
using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Devices;

namespace Sandbox.Grains.Hosts.Runtime;

/// <summary>Removes what nobody owns: leftovers of a crash, machines of sessions that moved on, leases never used, directories of sessions that are gone.</summary>
internal sealed partial class HostRuntime
{
    private static readonly TimeSpan UnusedLeaseLife = TimeSpan.FromMinutes(5);
    private DateTimeOffset _nextDirectorySweep;

    private async Task ReapAsync(CancellationToken cancellationToken)
    {
        foreach (var backend in _backends.Values)
        {
            foreach (var leftover in await backend.ReapAsync(IsOurs, cancellationToken))
            {
                _logger.LogWarning("Removed a leftover of microVM {Vm} (session {Session}): {What}", leftover.Owner.VmId, leftover.Owner.SessionId, leftover.What);
            }
        }

        // Only now: what a leftover machine had may be reset once that is gone, and not before.
        await _devices.RecoverAsync(IsLive, cancellationToken);
        ReapLeases();
        await ReapStaleMachinesAsync();
        await ReapDirectoriesAsync(cancellationToken);
    }

    private bool IsOurs(MicroVmOwner owner)
    {
        if (_pools.Values.Any(p => p.Owns(owner.VmId)))
        {
            return true;
        }

        lock (_gate)
        {
            return (_machines.TryGet(owner.VmId, out var machine) && machine.Generation == owner.Generation)
                || _machines.All.Any(m => m.ClaimedVmId == owner.VmId);
        }
    }

    private bool IsLive(DeviceOwner owner)
    {
        lock (_gate)
        {
            return _machines.TryGet(owner.VmId, out var machine) && machine.Generation == owner.Generation;
        }
    }

    private void ReapLeases()
    {
        var oldest = _clock.GetUtcNow() - UnusedLeaseLife;
        lock (_gate)
        {
            foreach (var held in _leases.Values.Where(h => h.At < oldest && !_machines.Contains(h.Lease.VmId)).ToList())
            {
                _logger.LogWarning("The lease of session {Session} was never used and is given back", held.Lease.SessionId);
                Unlease(held.Lease.SessionId);
            }
        }
    }

    /// <summary>A session whose generation has moved on to another host, that is paused, or that ended while this host could not be reached.</summary>
    private async Task ReapStaleMachinesAsync()
    {
        List<LiveMicroVm> live;
        lock (_gate)
        {
            live = [.. _machines.All.Where(m => m.Machine is not null)];
        }

        foreach (var machine in live)
        {
            var session = await FindSessionAsync(machine.SessionId);
            if (session is { Gone: true } || session?.Generation > machine.Generation)
            {
                machine.RequestStop(session.Value.Gone ? "its session ended" : $"its generation {machine.Generation} is stale");
            }
            else if (session is { Paused: true })
            {
                await DiscardMachineAsync(machine.SessionId, machine.VmId, machine.Generation, "its session is paused");
            }
        }
    }

    private async Task ReapDirectoriesAsync(CancellationToken cancellationToken)
    {
        var now = _clock.GetUtcNow();
        if (now < _nextDirectorySweep)
        {
            return;
        }

        _nextDirectorySweep = now + TimeSpan.FromHours(1);
        Logs.Sweep(_options.OutputRetention);
        foreach (var directory in Directory.EnumerateDirectories(Path.Combine(_options.DataDirectory, "sessions")))
        {
            cancellationToken.ThrowIfCancellationRequested();
            var sessionId = Path.GetFileName(directory);
            var session = SandboxIds.IsSession(sessionId) ? await FindSessionAsync(sessionId) : null;
            if (session is { Known: false })
            {
                await ForgetSessionAsync(sessionId);
            }
            else if (session is { } known && (known.Paused || known.HostId != HostId))
            {
                // Its disk is in a snapshot, or on another host; what was left here is old.
                RemoveDiskOf(sessionId, known.Generation);
            }
        }
    }

    /// <summary>What the session says of itself, or <see langword="null"/> if it cannot be asked now.</summary>
    private async Task<SeenSession?> FindSessionAsync(string sessionId)
    {
        try
        {
            var session = await _grains.GetGrain<ISessionGrain>(sessionId).GetAsync();
            return new SeenSession(true, session.State is SessionState.Terminated or SessionState.Failed, session.State == SessionState.Paused, session.Generation, session.HostId);
        }
        catch (SandboxException e) when (e.Code == SandboxErrorCode.NotFound)
        {
            return new SeenSession(false, true, false, 0, null);
        }
        catch (Exception e)
        {
            _logger.LogDebug(e, "Session {Session} cannot be asked now", sessionId);
            return null;
        }
    }

    private readonly record struct SeenSession(bool Known, bool Gone, bool Paused, long Generation, string? HostId);
}
