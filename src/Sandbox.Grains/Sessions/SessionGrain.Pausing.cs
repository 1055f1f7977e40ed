using Microsoft.Extensions.Logging;
using Sandbox.Abstractions;
using Sandbox.Grains.Sessions.State;
using Sandbox.Snapshots;

namespace Sandbox.Grains.Sessions;

/// <summary>
/// Pausing and resuming. The order makes a crash harmless: Pausing is stored with the snapshot's id, the host saves and commits, Paused is stored, the machine is removed. Whoever finds Pausing later asks whether the
/// snapshot exists.
/// </summary>
internal sealed partial class SessionGrain
{
    private Task _pause = Task.CompletedTask;
    private DateTimeOffset _nextSave;

    public async Task<SessionInfo> PauseAsync(string? idempotencyKey)
    {
        RequireExists();
        Idempotency.Validate(idempotencyKey);
        await BeginPauseAsync("paused by its owner", idempotencyKey);
        return Info();
    }

    public async Task<SessionInfo> ResumeAsync(string? idempotencyKey)
    {
        RequireExists();
        Idempotency.Validate(idempotencyKey);
        await _session.UpdateAsync(d =>
        {
            if (Idempotency.Find(d.Keys, idempotencyKey, "resume", "") is not null)
            {
                return d;
            }

            RequireNotEnded(d);
            RequireNotSealed(d);
            var next = d.State switch
            {
                SessionState.Paused => SessionStateMachine.Move(d, SessionState.Resuming, "resumed by its owner", Now),
                SessionState.Resuming => d,
                SessionState.Running => throw SandboxException.Conflict($"Session '{Id}' is running; only a paused session can be resumed."),
                _ => throw SandboxException.Conflict($"Session '{Id}' is {SessionStateMachine.Word(d.State)}; wait until it is paused, then resume it."),
            };
            return next with { Keys = Idempotency.Add(d.Keys, idempotencyKey, "resume", "") };
        });
        StartClock();
        BeginBringUp();
        return Info();
    }

    /// <summary>A paused session is needed: it is resumed, unless the call may not wake it.</summary>
    private async Task WakeAsync(bool mayWake)
    {
        RequireNotSealed(Document);
        if (!mayWake)
        {
            throw SandboxException.Conflict($"Session '{Id}' is paused, and the call was not to wake it. Resume it first, or let the call wake it.");
        }

        await _session.UpdateAsync(d => d.State == SessionState.Paused ? SessionStateMachine.Move(d, SessionState.Resuming, "woken by a call", Now) : d);
        StartClock();
        BeginBringUp();
    }

    private async Task BeginPauseAsync(string cause, string? idempotencyKey, bool toBeWoken = false)
    {
        await _session.UpdateAsync(d =>
        {
            if (Idempotency.Find(d.Keys, idempotencyKey, "pause", "") is not null)
            {
                return d;
            }

            RequireNotEnded(d);
            var keys = Idempotency.Add(d.Keys, idempotencyKey, "pause", "");
            if (d.State is SessionState.Pausing or SessionState.Paused)
            {
                // Whoever asks for a pause that its host began gets one that lasts.
                return d with { Keys = keys, ToBeWoken = d.ToBeWoken && toBeWoken };
            }

            if (d.State != SessionState.Running)
            {
                throw SandboxException.Conflict($"Session '{Id}' is {SessionStateMachine.Word(d.State)}; wait until it runs, then pause it.");
            }

            RequireCanSave(d);
            var pending = new CheckpointDocument { Id = SandboxIds.NewCheckpoint(), Kind = CheckpointKind.Pause, CreatedAt = Now };
            return SessionStateMachine.Move(d, SessionState.Pausing, cause, Now) with { Pending = pending, Loose = [.. d.Loose, pending.Id], Keys = keys, ToBeWoken = toBeWoken };
        });
        ContinuePause();
    }

    private void ContinuePause()
    {
        if (_pause.IsCompleted && Document.State == SessionState.Pausing)
        {
            _pause = FinishPauseAsync();
        }
    }

    private async Task FinishPauseAsync()
    {
        await Task.Yield();
        TenantContext.Set(TenantContext.System);
        try
        {
            // A checkpoint that is being taken comes to its end first: a machine is saved once at a time.
            await _saving.WaitAsync();
            try
            {
                if (Document is { State: SessionState.Pausing, Pending: { } pending })
                {
                    await SaveAndPauseAsync(Document, pending);
                }
            }
            finally
            {
                _saving.Release();
            }
        }
        catch (Exception e)
        {
            // Storage is away, most likely. The state says that a pause is due: the reminder, or the next activation, takes it up.
            _logger.LogError(e, "The pause of session {Session} could not be finished now", Id);
            DeactivateOnIdle();
        }
    }

    private async Task SaveAndPauseAsync(SessionDocument d, CheckpointDocument pending)
    {
        MicroVmSaved? saved = null;
        SandboxException? problem = null;
        try
        {
            saved = await Machine(d).SaveAsync(d.Generation, new MicroVmSave { SnapshotId = pending.Id, ParentId = d.Checkpoints.LastOrDefault()?.Id, Stop = true });
        }
        catch (Exception e)
        {
            problem = e as SandboxException ?? SandboxException.Unavailable(e.Message);
            _logger.LogWarning(e, "Session {Session} could not be saved", Id);
        }

        if (saved is not null)
        {
            await BecomePausedAsync(d, Complete(pending, d, saved), saved.Egress);
        }
        else
        {
            await ResolvePauseAsync(d, pending, problem!);
        }
    }

    /// <summary>The save failed, or its outcome is not known: the machine goes on if it lives; if not, the store knows whether the snapshot was committed.</summary>
    private async Task ResolvePauseAsync(SessionDocument d, CheckpointDocument pending, SandboxException problem)
    {
        try
        {
            await Machine(d).ContinueAsync(d.Generation, pending.Id);
            _nextSave = Now + _options.SaveRetryDelay;
            await _session.UpdateAsync(s => IsThisPause(s, d)
                ? SessionStateMachine.Move(s, SessionState.Running, $"could not be paused: {problem.Message}", Now) with { Pending = null, LastActivityAt = s.LastActivityAt, ToBeWoken = false }
                : s);
            Announce();
            await QuietlyAsync(DropLooseAsync, "deleting the snapshot that was given up");
        }
        catch (SandboxException e)
        {
            _logger.LogInformation(e, "MicroVM {Vm} of session {Session} did not survive its pause, or cannot be reached", d.VmId, Id);
            await RecoverPauseAsync(d, pending, problem);
        }
        catch (Exception e) when (e is TimeoutException or OrleansException)
        {
            await RecoverPauseAsync(d, pending, problem);
        }
    }

    private async Task RecoverPauseAsync(SessionDocument d, CheckpointDocument pending, SandboxException problem)
    {
        SnapshotInfo? found;
        try
        {
            found = _snapshots is null ? null : await _snapshots.FindAsync(d.Tenant, pending.Id, CancellationToken.None);
        }
        catch (SnapshotException e) when (e.Kind != SnapshotErrorKind.Corrupt)
        {
            // Neither the host nor the store: nothing is known, so nothing is decided. The clock tries again.
            _logger.LogWarning(e, "Whether session {Session} was saved is not known: neither its host nor the snapshot store answers", Id);
            return;
        }

        if (found?.Machine is not null)
        {
            await BecomePausedAsync(d, pending with
            {
                Number = d.LastCheckpoint + 1,
                StoredBytes = found.StoredBytes,
                Contexts = ContextsOf(d),
                Executions = [.. _executions.Running.Where(e => e.Generation == d.Generation)],
            });
            return;
        }

        var reason = $"its microVM was lost while it was being paused ({problem.Message})";
        await _session.UpdateAsync(s => IsThisPause(s, d) ? SessionStateMachine.Move(s, SessionState.Resuming, reason, Now) with { Pending = null, Resume = null } : s);
        _verified = 0;
        BeginBringUp();
    }

    private async Task BecomePausedAsync(SessionDocument d, CheckpointDocument checkpoint, EgressMark? egress = null)
    {
        await _session.UpdateAsync(s => IsThisPause(s, d)
            ? SessionStateMachine.Move(s, SessionState.Paused, s.Cause, Now) with
            {
                Pending = null,
                VmId = null,
                Checkpoints = [.. s.Checkpoints, checkpoint],
                LastCheckpoint = checkpoint.Number,
                Loose = [.. s.Loose.Where(l => l != checkpoint.Id)],
                Resume = new ResumePoint { CheckpointId = checkpoint.Id, KeepIds = true },
                Egress = egress is null ? s.Egress : s.Egress with { Mark = egress },
            }
            : s);
        _verified = 0;
        if (Document.State != SessionState.Paused)
        {
            return;
        }

        Announce();
        await QuietlyAsync(() => DiscardMachineAsync(d, "its session is paused"), "removing the microVM");
        await QuietlyAsync(PruneAsync, "removing old checkpoints");
        await QuietlyAsync(ArmReminderAsync, "arming the reminder");
        if (Document.State == SessionState.Paused)
        {
            // A paused session costs no memory: the reminder, or the next call, wakes the grain.
            DeactivateOnIdle();
        }
    }

    private async Task DiscardMachineAsync(SessionDocument d, string reason)
    {
        if (d.HostId is not null && d.VmId is not null)
        {
            await Machine(d).DiscardAsync(Id, d.Generation, reason).WaitAsync(LongestWait);
            await _grains.GetGrain<IHostGrain>(d.HostId).ReleaseAsync(Id, d.Generation).WaitAsync(LongestWait);
        }
    }

    private void RequireCanSave(SessionDocument d)
    {
        if (!d.CanSave || _snapshots is null)
        {
            throw new SandboxException(
                SandboxErrorCode.Unsupported,
                $"Session '{Id}' cannot be saved: " + (_snapshots is null ? "the server has no snapshot store."
                    : d.Needs.Devices.Count > 0 ? $"it has devices of its host, and backend '{d.Backend}' cannot save what is in them. Copy its files out, and end it when it is no longer needed."
                    : $"its backend '{d.Backend}' has no snapshots."));
        }
    }

    private static bool IsThisPause(SessionDocument now, SessionDocument then) =>
        now.State == SessionState.Pausing && now.Generation == then.Generation && now.Pending?.Id == then.Pending?.Id;

    /// <summary>The checkpoint with what is known once it is committed.</summary>
    private CheckpointDocument Complete(CheckpointDocument pending, SessionDocument d, MicroVmSaved saved) => pending with
    {
        Number = d.LastCheckpoint + 1,
        StoredBytes = saved.StoredBytes,
        MemoryBytes = saved.MemoryBytes,
        DiskBytes = saved.DiskBytes,
        Stopped = saved.Stopped,
        Duration = saved.Duration,
        Contexts = ContextsOf(d),
        Executions = d.DiskOnly ? [] : [.. saved.Executions.Select(_executions.Find).OfType<ExecutionInfo>()],
    };

    /// <summary>Generation 0: it is not in what was saved, and made again when it is next used.</summary>
    private static List<ContextDocument> ContextsOf(SessionDocument d) => d.Contexts.ConvertAll(c => c with { Generation = c.Generation == d.Generation && !d.DiskOnly ? 1 : 0 });
}
