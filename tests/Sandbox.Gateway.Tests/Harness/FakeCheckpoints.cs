using Sandbox.Abstractions;

namespace Sandbox.Gateway.Tests.Harness;

/// <content>Pausing, resuming, checkpoints and forks: each verb begins, and <see cref="WaitUntilSettledAsync"/> ends it.</content>
internal sealed partial class FakeSession : ISessionCheckpoints
{
    public Task<SessionInfo> PauseAsync(string? idempotencyKey) => Begin("pause", idempotencyKey, SessionState.Pausing);

    public Task<SessionInfo> ResumeAsync(string? idempotencyKey) => Begin("resume", idempotencyKey, SessionState.Resuming);

    public Task<CheckpointInfo> CreateCheckpointAsync(string? name, string? idempotencyKey)
    {
        Mine();
        world.Note("checkpoint", (name, idempotencyKey));
        var all = Saved();
        all.Add(new CheckpointInfo
        {
            Id = SandboxIds.NewCheckpoint(),
            SessionId = id,
            Number = all.Count + 1,
            Name = name,
            Kind = CheckpointKind.Named,
            CreatedAt = DateTimeOffset.UnixEpoch,
            StoredBytes = 1000,
            Stopped = TimeSpan.FromMilliseconds(120),
        });
        return Task.FromResult(all[^1]);
    }

    public Task<IReadOnlyList<CheckpointInfo>> ListCheckpointsAsync()
    {
        Mine();
        return Task.FromResult<IReadOnlyList<CheckpointInfo>>([.. Saved()]);
    }

    public Task DeleteCheckpointAsync(string checkpointId)
    {
        Mine();
        return Saved().RemoveAll(c => c.Id == checkpointId) == 1 ? Task.CompletedTask : throw SandboxException.NotFound($"There is no checkpoint {checkpointId}.");
    }

    public Task<SessionInfo> RollbackAsync(string checkpointId, string? idempotencyKey) => Saved().Exists(c => c.Id == checkpointId)
        ? Begin("rollback", checkpointId, SessionState.Resuming)
        : throw SandboxException.NotFound($"There is no checkpoint {checkpointId}.");

    public Task<IReadOnlyList<SessionInfo>> ForkAsync(int count, string? idempotencyKey)
    {
        Mine();
        world.Note("fork", (count, idempotencyKey));
        return Task.FromResult<IReadOnlyList<SessionInfo>>([.. Enumerable.Range(0, count).Select(_ => world.NewSession(SandboxIds.NewSession(), TenantContext.Current!, SessionState.Creating))]);
    }

    private Task<SessionInfo> Begin(string verb, object? value, SessionState state)
    {
        ThrowFault();
        world.Note(verb, value);
        return Task.FromResult(world.Sessions[id] = Mine() with { State = state });
    }

    private SessionInfo Settled(SessionInfo now) => now.State switch
    {
        _ when world.WaitFault is { } fault => throw fault,
        _ when world.Outcomes.TryRemove(id, out var outcome) => outcome,
        SessionState.Pausing => now with { State = SessionState.Paused },
        SessionState.Creating or SessionState.Resuming => now with { State = SessionState.Running },
        _ => now,
    };

    private List<CheckpointInfo> Saved() => world.Checkpoints.GetOrAdd(id, _ => []);
}
