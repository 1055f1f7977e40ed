using Microsoft.Extensions.Logging;
using Sandbox.Abstractions;
using Sandbox.Grains.Sessions.State;

namespace Sandbox.Grains.Sessions;

/// <summary>Where a session comes back: on the host that has its disk, or anywhere from a checkpoint.</summary>
internal sealed partial class SessionGrain
{
    /// <summary>
    /// A session that lost its microVM: the host that has its disk brings back its files as they were, and may need time to return. If it stays away, the session goes on elsewhere from its newest checkpoint, if it has one.
    /// </summary>
    private async Task BringBackFromDiskAsync()
    {
        var host = Document.HostId!;

        // Not since the state changed: while no server ran nobody looked, and a host that comes up with this silo is not away.
        var begun = Now;
        var failures = 0;
        while (Document is { State: SessionState.Resuming, Resume: null })
        {
            SandboxException? error;
            var away = false;
            try
            {
                var placement = await _grains.GetGrain<ISchedulerGrain>(0).PlaceAsync(Needs(Document) with { PreferredHost = host, PreferredHostOnly = true });
                error = await TryStartAsync(placement with { TemplateVersion = Document.TemplateVersion ?? placement.TemplateVersion }, SessionState.Resuming);
                away = error is not null && await IsAwayAsync(host);
                failures += error is null || away ? 0 : 1;
            }
            catch (SandboxException e)
            {
                error = e;
                away = true;
            }
            catch (Exception e)
            {
                error = SandboxException.Unavailable(e.Message);
            }

            if (error is null)
            {
                return;
            }

            if (away && Now - begun > _options.HostLossTimeout && Document.Checkpoints.LastOrDefault() is { } checkpoint)
            {
                await RecoverElsewhereAsync(host, checkpoint);
                return;
            }

            if (Document.State == SessionState.Resuming && (failures >= _options.StartAttempts || Now - begun > _options.HostReturnTimeout))
            {
                await FailAsync($"it lost its microVM ({Document.Cause}) and could not be brought back on host {host}, which has its disk: {error.Message}", Document.Generation);
                return;
            }

            await Task.Delay(_options.RetryDelay);
        }
    }

    private Task RecoverElsewhereAsync(string host, CheckpointDocument checkpoint)
    {
        _logger.LogWarning("Host {Host} of session {Session} is away: the session goes on from checkpoint {Checkpoint}", host, Id, checkpoint.Number);
        return _session.UpdateAsync(d => d is { State: SessionState.Resuming, Resume: null }
            ? d with { Resume = new ResumePoint { CheckpointId = checkpoint.Id, IsRecovery = true, Remark = $"recovered from checkpoint {checkpoint.Number}: {d.Cause}" } }
            : d);
    }

    /// <summary>Any host that fits, the last one first. If none can, the session is paused again, at the same checkpoint: nothing is lost.</summary>
    private async Task BringBackFromCheckpointAsync()
    {
        var tried = new List<string>();
        var begun = Now;
        while (Document is { State: SessionState.Resuming, Resume: { } resume })
        {
            SandboxException? error;
            Placement? placement = null;
            try
            {
                placement = await PlaceAsync(Document, tried);
                error = await TryStartAsync(placement, SessionState.Resuming);
            }
            catch (Exception e)
            {
                error = e as SandboxException ?? SandboxException.Unavailable($"No host could be chosen: {e.Message}");
            }

            if (error is null || Document.State != SessionState.Resuming)
            {
                return;
            }

            if (error.Code == SandboxErrorCode.Unavailable && Now - begun < PlacementPatience && (placement is null ? tried.Count == 0 : await IsAwayAsync(placement.HostId)))
            {
                await Task.Delay(_options.RetryDelay);
                continue;
            }

            if (error.Code == SandboxErrorCode.Internal)
            {
                // The snapshot itself: other hosts read the same.
                await GiveUpCheckpointAsync(resume, error);
                return;
            }

            if (placement is not null)
            {
                tried.Add(placement.HostId);
            }

            if (placement is null || tried.Count >= _options.StartAttempts)
            {
                await PauseAgainAsync(error);
                return;
            }
        }
    }

    /// <summary>A checkpoint that cannot be read: a recovery tries the one before it; a resume says so and leaves the choice to the owner.</summary>
    private async Task GiveUpCheckpointAsync(ResumePoint resume, SandboxException error)
    {
        var checkpoints = Document.Checkpoints;
        var older = checkpoints.FindIndex(c => c.Id == resume.CheckpointId) is var at and > 0 ? checkpoints[at - 1] : null;
        if (!resume.IsRecovery || older is null)
        {
            await PauseAgainAsync(error);
            return;
        }

        _logger.LogError(error, "Session {Session} cannot be recovered from its newest checkpoint; checkpoint {Checkpoint} is tried", Id, older.Number);
        await _session.UpdateAsync(d => d.State == SessionState.Resuming && d.Resume?.CheckpointId == resume.CheckpointId
            ? d with { Resume = resume with { CheckpointId = older.Id, Remark = $"recovered from checkpoint {older.Number}: {d.Cause}; a newer one could not be read" } }
            : d);
    }

    private async Task PauseAgainAsync(SandboxException error)
    {
        var tried = Document;
        await _session.UpdateAsync(d => d.State == SessionState.Resuming && d.Resume is not null
            ? SessionStateMachine.Move(d, SessionState.Paused, $"could not be resumed: {error.Message}", Now) with { VmId = null }
            : d);
        Announce();
        if (Document.State == SessionState.Paused)
        {
            // An attempt may have made the disk before it failed: a paused session has none.
            await QuietlyAsync(() => DiscardMachineAsync(tried, "its session is paused again"), "removing what was restored");
        }

        await QuietlyAsync(ArmReminderAsync, "arming the reminder");
    }

    private async Task<Placement> PlaceAsync(SessionDocument d, IReadOnlyList<string> tried)
    {
        var needs = Needs(d) with { Excluded = tried };
        if (d.Resume is null)
        {
            return await _grains.GetGrain<ISchedulerGrain>(0).PlaceAsync(needs);
        }

        // A saved machine is of one backend and one version of its template; the host that saved it has its golden memory at hand.
        var placement = await _grains.GetGrain<ISchedulerGrain>(0).PlaceAsync(needs with { Backend = d.Backend, PreferredHost = d.HostId });
        return placement with { TemplateVersion = d.TemplateVersion ?? placement.TemplateVersion };
    }

    /// <summary>A host for a session that is not stored yet, or <see langword="null"/>: then one is looked for with patience once it is.</summary>
    private async Task<Placement?> TryPlaceAsync(SessionDocument d)
    {
        try
        {
            return await PlaceAsync(d, []);
        }
        catch (Exception e) when (e is not SandboxException { Code: SandboxErrorCode.Unsupported } && !(d.Needs.Devices.Count > 0 && e is SandboxException { Code: SandboxErrorCode.ResourceExhausted }))
        {
            // Devices are had for as long as sessions live: a request for some that all have an owner is answered at once, and not by a session that fails.
            _logger.LogDebug(e, "No host for session {Session} yet", Id);
            return null;
        }
    }

    private static MicroVmRestore RestoreOf(SessionDocument d, ResumePoint resume)
    {
        var checkpoint = d.Checkpoints.Find(c => c.Id == resume.CheckpointId)
            ?? throw new SandboxException(SandboxErrorCode.Internal, $"Session {d.Id} has no checkpoint '{resume.CheckpointId}' to go on from.");
        return new MicroVmRestore
        {
            SnapshotId = checkpoint.Id,
            CopyOf = resume.CopyOf,
            Executions = checkpoint.Executions.ToDictionary(e => e.Id, e => resume.KeepIds ? e.Id : SandboxIds.NewExecution(), StringComparer.Ordinal),

            // Logs of another session stay with it.
            ImportLogs = resume.CopyOf is null,
            Siblings = resume.Siblings,
        };
    }

    /// <summary>The machine runs: executions that went on are the session's, under their old ids or new ones; the others have ended.</summary>
    private async Task TakeExecutionsOverAsync(SessionDocument mine, MicroVmStarted started)
    {
        await _executions.RelocateAsync([.. started.ImportedLogs], mine.HostId!);
        var known = mine.Checkpoints.Find(c => c.Id == mine.Resume!.CheckpointId)!.Executions;
        await _executions.ChangeAsync(e => started.Executions.TryGetValue(e.Id, out var was) && was == e.Id ? e with { HostId = mine.HostId!, Generation = mine.Generation } : e);
        await _executions.AddAsync([.. started.Executions.Where(p => p.Key != p.Value || _executions.Find(p.Key) is null).Select(p => known.Find(e => e.Id == p.Value)! with
        {
            Id = p.Key,
            SessionId = Id,
            HostId = mine.HostId!,
            Generation = mine.Generation,
            State = ExecutionState.Running,
            ContinuedFrom = p.Value == p.Key ? null : p.Value,
        })]);
        await CloseLostExecutionsAsync(mine, [.. started.Executions.Keys]);
    }

    /// <summary>An attempt that certainly left nothing behind does not cost executions their ids.</summary>
    private async Task KeepIdsAsync(SessionDocument mine, bool keep)
    {
        if (keep)
        {
            await _session.UpdateAsync(d => d.Generation == mine.Generation && d.Resume is { } resume ? d with { Resume = resume with { KeepIds = true } } : d);
        }
    }

    private static List<ContextDocument> ContextsFrom(SessionDocument d, ResumePoint resume) =>
        [.. d.Checkpoints.Find(c => c.Id == resume.CheckpointId)!.Contexts.Select(c => c with { Generation = c.Generation == 1 ? d.Generation : 0 })];
}
