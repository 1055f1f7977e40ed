using Microsoft.Extensions.Logging;
using Sandbox.Abstractions;
using Sandbox.Grains.Sessions.State;
using Sandbox.Grains.Sessions.Validation;

namespace Sandbox.Grains.Sessions;

/// <summary>Checkpoints of a session that runs on.</summary>
internal sealed partial class SessionGrain
{
    private static readonly TimeSpan ForkCheckpointLife = TimeSpan.FromHours(1);
    private readonly SemaphoreSlim _saving = new(1, 1);
    private readonly Dictionary<string, Task<CheckpointDocument>> _checkpointing = new(StringComparer.Ordinal);
    private string? _savingId;
    private Task _automatic = Task.CompletedTask;

    public async Task<CheckpointInfo> CreateCheckpointAsync(string? name, string? idempotencyKey)
    {
        RequireExists();
        Idempotency.Validate(idempotencyKey);
        SessionValidation.CheckCheckpointName(name);
        var fingerprint = Idempotency.Fingerprint(name);
        if (Idempotency.Find(Document.Keys, idempotencyKey, "checkpoint", fingerprint) is { } record)
        {
            return Checkpoint(record.Result).ToInfo(Id);
        }

        Touch();
        return (await OnceAsync(idempotencyKey, () => TakeCheckpointAsync(CheckpointKind.Named, name, idempotencyKey, "checkpoint", fingerprint))).ToInfo(Id);
    }

    public Task<IReadOnlyList<CheckpointInfo>> ListCheckpointsAsync()
    {
        RequireExists();
        return Task.FromResult<IReadOnlyList<CheckpointInfo>>([.. Document.Checkpoints.Select(c => c.ToInfo(Id))]);
    }

    public async Task DeleteCheckpointAsync(string checkpointId)
    {
        RequireExists();
        await _session.UpdateAsync(d =>
        {
            RequireNotEnded(d);
            if (d.Checkpoints.TrueForAll(c => c.Id != checkpointId))
            {
                throw UnknownCheckpoint(checkpointId);
            }

            if (d.Resume?.CheckpointId == checkpointId)
            {
                throw SandboxException.Conflict($"Checkpoint '{checkpointId}' is what session '{Id}' goes on from; resume the session first.");
            }

            return d with { Checkpoints = [.. d.Checkpoints.Where(c => c.Id != checkpointId)], Loose = [.. d.Loose, checkpointId] };
        });
        await QuietlyAsync(DropLooseAsync, "deleting a checkpoint");
    }

    /// <summary>Two calls with one key are one.</summary>
    private async Task<CheckpointDocument> OnceAsync(string? key, Func<Task<CheckpointDocument>> take)
    {
        if (key is null)
        {
            return await take();
        }

        if (!_checkpointing.TryGetValue(key, out var taking))
        {
            _checkpointing[key] = taking = take();
        }

        try
        {
            return await taking;
        }
        finally
        {
            _checkpointing.Remove(key);
        }
    }

    /// <summary>Saves the running machine. The snapshot's id is stored as loose before it is begun, and becomes a checkpoint in the write that says that it is whole.</summary>
    private async Task<CheckpointDocument> TakeCheckpointAsync(CheckpointKind kind, string? name, string? key, string operation, string fingerprint)
    {
        await _saving.WaitAsync();
        try
        {
            if (Document.State == SessionState.Running)
            {
                // After a restart of the server nobody has looked yet whether its machine is still there.
                await RequireRunningAsync();
            }

            var pending = new CheckpointDocument { Id = SandboxIds.NewCheckpoint(), Name = name, Kind = kind, CreatedAt = Now };
            _savingId = pending.Id;
            await _session.UpdateAsync(d =>
            {
                RequireMayCheckpoint(d, kind, name);
                return d with { Loose = [.. d.Loose, pending.Id] };
            });
            var mine = Document;
            CheckpointDocument taken;
            try
            {
                var saved = await SaveMachineAsync(mine, pending);
                taken = Complete(pending, mine, saved);
                await _session.UpdateAsync(d => d.IsFinal
                    ? throw SandboxException.Conflict($"Session '{Id}' ended while the checkpoint was taken.")
                    : d with
                    {
                        Checkpoints = [.. d.Checkpoints, taken = taken with { Number = d.LastCheckpoint + 1 }],
                        LastCheckpoint = d.LastCheckpoint + 1,
                        Loose = [.. d.Loose.Where(l => l != pending.Id)],
                        Keys = Idempotency.Add(d.Keys, key, operation, fingerprint, pending.Id),
                    });
            }
            catch
            {
                _savingId = null;
                await QuietlyAsync(DropLooseAsync, "deleting a snapshot that was given up");
                throw;
            }

            _savingId = null;
            await QuietlyAsync(PruneAsync, "removing old checkpoints");
            return taken;
        }
        finally
        {
            _savingId = null;
            _saving.Release();
        }
    }

    private async Task<MicroVmSaved> SaveMachineAsync(SessionDocument mine, CheckpointDocument pending)
    {
        try
        {
            return await AskMachineAsync(mine, vm => vm.SaveAsync(mine.Generation, new MicroVmSave { SnapshotId = pending.Id, ParentId = mine.Checkpoints.LastOrDefault()?.Id, Fork = pending.Kind == CheckpointKind.Fork }));
        }
        catch (SandboxException e) when (e.Code is SandboxErrorCode.Unavailable)
        {
            // No answer does not mean that nothing is written any more: a snapshot that is committed after its id is forgotten would stay for ever.
            await QuietlyAsync(() => Machine(mine).ContinueAsync(mine.Generation, pending.Id).WaitAsync(LongestWait), "giving up a save");
            throw;
        }
    }

    private void RequireMayCheckpoint(SessionDocument d, CheckpointKind kind, string? name)
    {
        RequireNotEnded(d);
        if (d.State != SessionState.Running)
        {
            throw SandboxException.Conflict(d.State == SessionState.Paused
                ? $"Session '{Id}' is paused: its newest checkpoint is its state. Make new sessions from that, or resume it first."
                : $"Session '{Id}' is {SessionStateMachine.Word(d.State)}; wait until it runs.");
        }

        RequireCanSave(d);
        if (name is not null && d.Checkpoints.Exists(c => c.Name == name))
        {
            throw new SandboxException(SandboxErrorCode.AlreadyExists, $"Session '{Id}' has a checkpoint named '{name}'.", "name");
        }

        if (kind == CheckpointKind.Named && d.Checkpoints.Count(c => c.Kind == CheckpointKind.Named) >= _options.MaxCheckpoints)
        {
            throw new SandboxException(SandboxErrorCode.ResourceExhausted, $"Session '{Id}' has {_options.MaxCheckpoints} checkpoints, the most it may have. Delete some first.");
        }
    }

    private CheckpointDocument Checkpoint(string id) => Document.Checkpoints.Find(c => c.Id == id) ?? throw UnknownCheckpoint(id);

    private SandboxException UnknownCheckpoint(string id) =>
        SandboxException.NotFound($"There is no checkpoint '{(SandboxIds.IsCheckpoint(id) ? id : "?")}' in session '{Id}'.");

    /// <summary>Lets go of checkpoints that are kept only for a while.</summary>
    private async Task PruneAsync()
    {
        var oldestFork = Now - ForkCheckpointLife;
        await _session.UpdateAsync(d =>
        {
            var passing = d.Checkpoints.Where(c => c.Kind is CheckpointKind.Pause or CheckpointKind.Automatic or CheckpointKind.Origin).ToList();
            var gone = passing.Take(Math.Max(0, passing.Count - _options.KeptCheckpoints))
                .Concat(d.Checkpoints.Where(c => c.Kind == CheckpointKind.Fork && c.CreatedAt < oldestFork))
                .Where(c => c.Id != d.Resume?.CheckpointId)
                .Select(c => c.Id)
                .ToHashSet(StringComparer.Ordinal);
            return gone.Count == 0 ? d : d with { Checkpoints = [.. d.Checkpoints.Where(c => !gone.Contains(c.Id))], Loose = [.. d.Loose, .. gone] };
        });
        await DropLooseAsync();
    }

    /// <summary>Deletes the snapshots that nothing refers to, but the one that is being written.</summary>
    private async Task DropLooseAsync()
    {
        if (_snapshots is null)
        {
            return;
        }

        foreach (var id in Document.Loose.Where(l => l != _savingId && l != Document.Pending?.Id).ToList())
        {
            await _snapshots.DeleteAsync(Document.Tenant, id, CancellationToken.None);
            await _session.UpdateAsync(d => d with { Loose = [.. d.Loose.Where(l => l != id)] });
        }
    }

    /// <summary>Looks whether the session's policy wants a checkpoint now, and takes it beside the calls.</summary>
    private void CheckPolicy(bool executionEnded)
    {
        var d = Document;
        if (d.State != SessionState.Running || !d.CanSave || !_automatic.IsCompleted || Now < _nextSave)
        {
            return;
        }

        var last = d.Checkpoints.Count > 0 ? d.Checkpoints[^1].CreatedAt : d.CreatedAt;
        var used = LastActivity() > last;
        var due = (d.Policy.AfterEachExecution && executionEnded && !_executions.HasRunning)
            || (d.Policy.Every is { } period && used && Now - last >= period)
            || (d.Policy.OnIdle && used && !_executions.HasRunning && Now - LastActivity() >= _options.CheckpointIdleDelay);
        if (due)
        {
            _automatic = TakeAutomaticAsync();
        }
    }

    private async Task TakeAutomaticAsync()
    {
        await Task.Yield();
        TenantContext.Set(TenantContext.System);
        try
        {
            await TakeCheckpointAsync(CheckpointKind.Automatic, null, null, "", "");
        }
        catch (Exception e)
        {
            _nextSave = Now + _options.SaveRetryDelay;
            _logger.LogWarning(e, "Session {Session}: a checkpoint that its policy asks for could not be taken; the next try is in {Delay}", Id, _options.SaveRetryDelay);
        }
    }
}
