using Orleans.Concurrency;

namespace Sandbox.Abstractions;

/// <summary>
/// Pausing, resuming, checkpoints and forks of a session. Key: session id; the same grain as <see cref="ISessionGrain"/>. Verbs begin, and answer when their outcome is stored; those that may take long
/// answer within the call's deadline in a transitional state, to be followed with <see cref="ISessionGrain.WaitUntilSettledAsync"/>.
/// </summary>
[Alias("sandbox.ISessionCheckpoints")]
public interface ISessionCheckpoints : IGrainWithStringKey
{
    /// <summary>
    /// Begins to pause a running session: its machine is saved and removed. Processes, open files and variables are there again after a resume. Returns in state <see cref="SessionState.Pausing"/>, or
    /// <see cref="SessionState.Paused"/> where it is paused already. If the snapshot cannot be stored, the session runs on and <see cref="SessionInfo.Cause"/> says why.
    /// </summary>
    /// <exception cref="SandboxException"><see cref="SandboxErrorCode.Conflict"/>: it is being created or resumed, or has ended; <see cref="SandboxErrorCode.Unsupported"/>: its backend cannot save memory.</exception>
    [Alias("pause"), AlwaysInterleave]
    Task<SessionInfo> PauseAsync(string? idempotencyKey);

    /// <summary>Begins to resume a paused session; returns in state <see cref="SessionState.Resuming"/>, or as it is where a resume is under way.</summary>
    /// <exception cref="SandboxException"><see cref="SandboxErrorCode.Conflict"/>: it runs, is being paused, or has ended.</exception>
    [Alias("resume"), AlwaysInterleave]
    Task<SessionInfo> ResumeAsync(string? idempotencyKey);

    /// <summary>Takes a checkpoint of a running session, which stands still only while its state is set aside.</summary>
    /// <param name="name">1 to 100 printable characters, unique in the session; or <see langword="null"/>.</param>
    /// <param name="idempotencyKey">The same key again returns the same checkpoint.</param>
    /// <exception cref="SandboxException">
    /// <see cref="SandboxErrorCode.Conflict"/>: it does not run; <see cref="SandboxErrorCode.AlreadyExists"/>: the name is taken; <see cref="SandboxErrorCode.ResourceExhausted"/>: it has as many as it may have, or the store is full;
    /// <see cref="SandboxErrorCode.Unsupported"/>; <see cref="SandboxErrorCode.Unavailable"/>: the store cannot be reached.
    /// </exception>
    [Alias("checkpoint"), AlwaysInterleave, ResponseTimeout("00:03:00")]
    Task<CheckpointInfo> CreateCheckpointAsync(string? name, string? idempotencyKey);

    /// <summary>All checkpoints, oldest first.</summary>
    [Alias("checkpoints"), AlwaysInterleave]
    Task<IReadOnlyList<CheckpointInfo>> ListCheckpointsAsync();

    /// <summary>Deletes a checkpoint. The one that a paused session would resume from is refused with <see cref="SandboxErrorCode.Conflict"/>.</summary>
    /// <exception cref="SandboxException"><see cref="SandboxErrorCode.NotFound"/>: there is no such checkpoint.</exception>
    [Alias("delete-checkpoint"), AlwaysInterleave]
    Task DeleteCheckpointAsync(string checkpointId);

    /// <summary>
    /// Begins to put a running or paused session back to a checkpoint, under the same id; returns in state <see cref="SessionState.Resuming"/>. Files, variables and processes are as they were then. Executions that
    /// ran at the checkpoint go on under new ids (<see cref="ExecutionInfo.ContinuedFrom"/>); outputs since then stay readable.
    /// </summary>
    /// <exception cref="SandboxException"><see cref="SandboxErrorCode.NotFound"/>: there is no such checkpoint, and nothing has changed; <see cref="SandboxErrorCode.Conflict"/>: the session is in transition or has ended.</exception>
    [Alias("rollback"), AlwaysInterleave]
    Task<SessionInfo> RollbackAsync(string checkpointId, string? idempotencyKey);

    /// <summary>Makes independent copies of a running session, which itself runs on. Each is a session of its own, in state <see cref="SessionState.Creating"/> when this returns.</summary>
    /// <param name="count">1 to 100.</param>
    /// <param name="idempotencyKey">The same key again returns the same sessions.</param>
    /// <exception cref="SandboxException">As <see cref="CreateCheckpointAsync"/>.</exception>
    [Alias("fork"), AlwaysInterleave, ResponseTimeout("00:03:00")]
    Task<IReadOnlyList<SessionInfo>> ForkAsync(int count, string? idempotencyKey);
}
