using Microsoft.Extensions.Logging;
using Sandbox.Abstractions;
using Sandbox.Grains.Hosts.Executions;
using Sandbox.Grains.Sessions.State;

namespace Sandbox.Grains.Sessions;

/// <summary>Bringing a microVM up, for a new session and for one that lost its own. Runs beside the calls; what it needs to go on after a crash is stored.</summary>
internal sealed partial class SessionGrain
{
    private const string NoNetworkWarning = "its backend gives it no network here: nothing is reachable, whatever its egress policy says";
    private static readonly TimeSpan PlacementPatience = TimeSpan.FromSeconds(45);
    private Task _bringUp = Task.CompletedTask;

    /// <summary>The host that the stored generation of a session just made is meant for; nobody has been there yet.</summary>
    private Placement? _placed;

    private void BeginBringUp()
    {
        if (_bringUp.IsCompleted)
        {
            _bringUp = BringUpAsync();
        }
    }

    private async Task BringUpAsync()
    {
        // Not before the call that asked for it has its answer under way; and for the system, whoever asked.
        await Task.Yield();
        TenantContext.Set(TenantContext.System);
        try
        {
            while (Document.State is SessionState.Creating or SessionState.Resuming)
            {
                var creating = Document.State == SessionState.Creating;
                await (Document.Sealed ? SealAsync() : creating ? CreateMachineAsync() : Document.Resume is null ? BringBackFromDiskAsync() : BringBackFromCheckpointAsync());
            }
        }
        catch (Exception e)
        {
            // Storage is away, most likely. The state says that a start is due: the reminder, or the next activation, takes it up.
            _logger.LogError(e, "Session {Session} could not be brought up now", Id);
            DeactivateOnIdle();
        }
    }

    /// <summary>A new session: any host that fits, and another if one fails.</summary>
    private async Task CreateMachineAsync()
    {
        var tried = new List<string>();
        SandboxException? last = null;
        var begun = Now;
        while (Document.State == SessionState.Creating)
        {
            Placement placement;
            try
            {
                placement = _placed ?? await PlaceAsync(Document, tried);
            }
            catch (Exception e)
            {
                // A host that restarts, or still probes its backends, is worth a little patience; a request that no host can ever serve is not.
                var known = e as SandboxException ?? SandboxException.Unavailable($"No host could be chosen: {e.Message}");
                if (tried.Count == 0 && known.Code == SandboxErrorCode.Unavailable && Now - begun < PlacementPatience)
                {
                    await Task.Delay(_options.RetryDelay);
                    continue;
                }

                await FailAsync((last ?? known).Message, Document.Generation);
                return;
            }

            last = await TryStartAsync(placement, SessionState.Creating);
            if (last is null)
            {
                return;
            }

            if (last.Code == SandboxErrorCode.Unavailable && Now - begun < PlacementPatience && await IsAwayAsync(placement.HostId))
            {
                // A host that is being restarted under the session has not failed it.
                await Task.Delay(_options.RetryDelay);
                continue;
            }

            tried.Add(placement.HostId);
            if (tried.Count >= _options.StartAttempts && Document.State == SessionState.Creating)
            {
                await FailAsync(last.Message, Document.Generation);
                return;
            }
        }
    }

    /// <summary>A host that cannot be reached, or is being stopped: what failed there says nothing about the session.</summary>
    private async Task<bool> IsAwayAsync(string hostId)
    {
        try
        {
            return (await _grains.GetGrain<IHostGrain>(hostId).GetAsync()).Draining;
        }
        catch (Exception e)
        {
            _logger.LogDebug(e, "Host {Host} does not answer", hostId);
            return true;
        }
    }

    /// <summary>One attempt on one host. <see langword="null"/>: done, or the session moved on meanwhile. Else what went wrong.</summary>
    private async Task<SandboxException?> TryStartAsync(Placement placement, SessionState expected)
    {
        var keepIds = false;
        if (_placed is null)
        {
            if (Document.Resume is not { IsRecovery: true })
            {
                await StopMachineAsync(Document, Document.Cause ?? "its start is repeated");
            }

            // The generation rises in storage before anything happens in the world: whoever acts for an older one is refused from now on.
            await _session.UpdateAsync(d =>
            {
                keepIds = d.Resume is { KeepIds: true };
                return d.State == expected ? OnHost(d, placement) : d;
            });
        }

        _placed = null;
        var mine = Document;
        if (mine.State != expected)
        {
            return null;
        }

        try
        {
            var host = _grains.GetGrain<IHostGrain>(placement.HostId);
            if (!await host.TryReserveAsync(new HostLease(Id, mine.Generation, mine.VmId!, mine.Vcpus, mine.MemoryMiB)))
            {
                await KeepIdsAsync(mine, keepIds);
                return new SandboxException(SandboxErrorCode.ResourceExhausted, $"Host {placement.HostId} has no room now.");
            }

            if (expected == SessionState.Resuming && mine.Resume is null)
            {
                // The reservation has ended the old machine and its pumps: what their logs say now is final.
                await CloseLostExecutionsAsync(mine, []);
            }

            var restore = mine.Resume is { } resume ? RestoreOf(mine, resume with { KeepIds = keepIds }) : null;
            var started = await Machine(mine).StartAsync(StartOf(mine) with { Restore = restore, Egress = await EgressOfAsync(mine) });
            if (restore is not null)
            {
                await TakeExecutionsOverAsync(mine, started);
            }

            await BecomeRunningAsync(mine, started, expected);
            return null;
        }
        catch (Exception e)
        {
            _logger.LogWarning(e, "Session {Session} generation {Generation} did not start on host {Host}", Id, mine.Generation, placement.HostId);
            await QuietlyAsync(() => StopMachineAsync(mine, "its start failed"), "stopping the microVM");
            if (e is SandboxException known)
            {
                await QuietlyAsync(() => KeepIdsAsync(mine, keepIds), "noting that the start failed");
                return known;
            }

            return SandboxException.Unavailable($"Host {placement.HostId} could not be used: {e.Message}");
        }
    }

    /// <summary>The document with the next generation, on a host.</summary>
    private SessionDocument OnHost(SessionDocument d, Placement placement) => d with
    {
        Generation = d.Generation + 1,
        HostId = placement.HostId,
        VmId = $"vm-{Id[4..]}-{d.Generation + 1}",
        Backend = placement.Backend,
        TemplateVersion = placement.TemplateVersion,
        Egress = d.Egress.OnHost(placement.HostId, lostHost: d.Resume is null or { IsRecovery: true }),
        HostsUsed = d.HostsUsed.Contains(placement.HostId) ? d.HostsUsed : [.. d.HostsUsed, placement.HostId],

        // If nobody learns what comes of this attempt, executions may have said more than the snapshot knows: the next one must not go on in their logs.
        Resume = d.Resume is { } resume ? resume with { KeepIds = false } : null,
    };

    private async Task BecomeRunningAsync(SessionDocument mine, MicroVmStarted started, SessionState expected)
    {
        var now = Now;
        await _session.UpdateAsync(d =>
        {
            if (d.State != expected || d.Generation != mine.Generation)
            {
                return d;
            }

            var next = SessionStateMachine.Move(d, SessionState.Running, d.Resume?.Remark, now) with
            {
                Contexts = d.Resume is { } resume ? ContextsFrom(d, resume) : d.Contexts,
                Resume = null,
                ToBeWoken = false,
                CanSave = started.CanSave,
                DiskOnly = started.DiskOnly,
                Accelerator = started.Accelerator,
                StartMethod = started.Method,
                StartDuration = now - (expected == SessionState.Creating ? d.CreatedAt : d.StateChangedAt),
                Warnings = started.Network || d.Egress.Policy.ReachesNothing() ? [.. started.Warnings] : [.. started.Warnings, NoNetworkWarning],
                Egress = d.Egress with { Mark = d.Egress.Mark with { Network = started.Network } },
                LastActivityAt = now,

                // A recovery is no new beginning: what was left of its time still is.
                RunsUntil = d.RunLimit is null ? null : expected == SessionState.Resuming && d.Resume is null or { IsRecovery: true } ? d.RunsUntil : now + d.RunLimit,
            };
            var recovered = expected == SessionState.Resuming && d.Resume is null or { IsRecovery: true };
            return recovered ? next with { Recoveries = [.. d.Recoveries.TakeLast(49), RecoveryOf(d, started, now)] } : next;
        });
        if (Document.State != SessionState.Running || Document.Generation != mine.Generation)
        {
            // It was ended while it started: nobody wants this machine.
            await QuietlyAsync(() => StopMachineAsync(mine, "its session ended while it started"), "stopping the microVM");
            if (Document.IsFinal)
            {
                await CleanUpAsync();
            }

            return;
        }

        _verified = mine.Generation;
        Touch();
        Announce();
        if (Document.Egress.Version != mine.Egress.Version)
        {
            // It was changed while the machine started with the one before.
            await QuietlyAsync(() => HoldAsync(Document), "holding the machine to its policy");
        }

        if (expected == SessionState.Resuming)
        {
            // A new session's reminder comes in a minute anyway, and sets itself anew.
            await QuietlyAsync(ArmReminderAsync, "arming the reminder");
        }
    }

    private static SessionRecovery RecoveryOf(SessionDocument d, MicroVmStarted started, DateTimeOffset now)
    {
        var reason = d.Cause ?? "its microVM was lost";
        if (d.Resume is { } resume && d.Checkpoints.Find(c => c.Id == resume.CheckpointId) is { } checkpoint)
        {
            return new SessionRecovery(
                now, d.Generation, reason, $"files, variables and processes as of checkpoint {checkpoint.Number}", $"everything since {checkpoint.CreatedAt.UtcDateTime:yyyy-MM-dd HH:mm:ss} UTC", checkpoint.Number);
        }

        return new SessionRecovery(now, d.Generation, reason, started.DiskExisted ? "files on disk" : "nothing", started.DiskExisted ? "processes, variables" : "files, processes, variables");
    }

    /// <summary>Every execution that ran and does not go on gets its truthful end: what its log says, or that it was lost.</summary>
    private async Task CloseLostExecutionsAsync(SessionDocument mine, IReadOnlyCollection<string> going)
    {
        var why = mine.Cause ?? "its microVM was lost";
        var exits = new Dictionary<string, ExecutionExit>(StringComparer.Ordinal);
        foreach (var execution in _executions.Running.Where(e => e.Generation < mine.Generation && !going.Contains(e.Id)).ToList())
        {
            var lost = ExitTranslator.Lost(why, new ExecutionFacts { IsCode = execution.ContextId is not null }, Now - execution.StartedAt);
            exits[execution.Id] = lost;
            if (execution.HostId == mine.HostId || mine.Resume is not { IsRecovery: true })
            {
                // The host of a session that is recovered elsewhere does not answer; its reader says the same when it is back.
                await QuietlyAsync(
                    async () => exits[execution.Id] = await _grains.GetGrain<IHostGrain>(execution.HostId).SealExecutionAsync(Id, execution.Id, lost).WaitAsync(LongestWait) ?? lost,
                    $"closing the log of execution {execution.Id}");
            }
        }

        if (exits.Count > 0)
        {
            await _executions.ChangeAsync(e => exits.TryGetValue(e.Id, out var exit) ? e with { State = ExecutionState.Ended, EndedAt = Now, Exit = exit } : e);
        }
    }

    private async Task StopMachineAsync(SessionDocument d, string reason)
    {
        if (d.HostId is null || d.VmId is null)
        {
            return;
        }

        try
        {
            await Machine(d).StopAsync(d.Generation, reason).WaitAsync(LongestWait);
            await _grains.GetGrain<IHostGrain>(d.HostId).ReleaseAsync(Id, d.Generation).WaitAsync(LongestWait);
        }
        catch (Exception e)
        {
            // The host is away, and its machines with it; if it only seems so, it refuses the old generation and reaps it.
            _logger.LogInformation(e, "MicroVM {Vm} of session {Session} could not be stopped", d.VmId, Id);
        }
    }

    private IMicroVmGrain Machine(SessionDocument d) => _grains.GetGrain<IMicroVmGrain>($"{d.HostId}/{d.VmId}");

    private static PlacementRequest Needs(SessionDocument d) => new()
    {
        Template = d.Template,
        MemoryMiB = d.MemoryMiB,
        Backend = d.RequestedBackend,
        Untrusted = d.Untrusted,
        Needs = d.Needs,
    };

    private static MicroVmStart StartOf(SessionDocument d) => new()
    {
        SessionId = d.Id,
        Tenant = d.Tenant,
        Generation = d.Generation,
        Template = d.Template,
        TemplateVersion = d.TemplateVersion!,
        Backend = d.Backend!,
        Vcpus = d.Vcpus,
        MemoryMiB = d.MemoryMiB,
        DiskMiB = d.DiskMiB,
        Devices = d.Needs.Devices,
    };
}
