using Sandbox.Abstractions;

namespace Sandbox.Client;

/// <content>Pausing, resuming, checkpoints and forks.</content>
public sealed partial class SandboxSession
{
    internal ISessionCheckpoints Checkpoints => _grains.GetGrain<ISessionCheckpoints>(Id);

    private Caller Patient => Caller.WithCallTimeout(Client.Options.StartDeadline);

    /// <summary>Pauses the session and waits until it is paused: its machine is saved and removed. Processes, open files and variables are there again after a resume.</summary>
    /// <exception cref="SandboxException">
    /// <see cref="SandboxErrorCode.Unavailable"/>: it could not be saved, and runs on (the message says why); <see cref="SandboxErrorCode.Conflict"/>: it does not run, or has ended;
    /// <see cref="SandboxErrorCode.Unsupported"/>: its backend cannot save memory; <see cref="SandboxErrorCode.DeadlineExceeded"/>: it is still being saved.
    /// </exception>
    public async Task<SessionInfo> PauseAsync(CancellationToken cancellationToken = default)
    {
        var key = SandboxClient.NewKey();
        await Caller.RetryAsync(() => Checkpoints.PauseAsync(key), cancellationToken);
        var info = await WaitUntilSettledAsync(cancellationToken);
        return info.State switch
        {
            SessionState.Paused => info,
            SessionState.Running => throw SandboxException.Unavailable($"Session {Id} could not be paused and runs on{Why(info)}"),
            SessionState.Pausing => throw new SandboxException(SandboxErrorCode.DeadlineExceeded, $"Session {Id} is not paused after {Client.Options.StartDeadline.TotalSeconds:0} s."),
            _ => throw SandboxException.Conflict($"Session {Id} is not paused: it is {Word(info.State)}{Why(info)}"),
        };
    }

    /// <summary>Resumes a paused session and waits until it runs. Calls that need the machine do so by themselves, see <see cref="WithWake"/>.</summary>
    /// <exception cref="SandboxException"><see cref="SandboxErrorCode.Conflict"/>: it is not paused, or did not come back (the message says why); <see cref="SandboxErrorCode.DeadlineExceeded"/>: it still does not run.</exception>
    public async Task<SessionInfo> ResumeAsync(CancellationToken cancellationToken = default)
    {
        var key = SandboxClient.NewKey();
        await Caller.RetryAsync(() => Checkpoints.ResumeAsync(key), cancellationToken);
        return await WaitUntilRunningAsync(cancellationToken);
    }

    /// <summary>Takes a checkpoint of the running session, which stands still only while its state is set aside.</summary>
    /// <param name="name">1 to 100 printable characters, unique in the session; or <see langword="null"/>.</param>
    /// <param name="cancellationToken">Gives up waiting for the answer.</param>
    /// <exception cref="SandboxException">As <see cref="ISessionCheckpoints.CreateCheckpointAsync"/>.</exception>
    public Task<CheckpointInfo> CheckpointAsync(string? name = null, CancellationToken cancellationToken = default)
    {
        var key = SandboxClient.NewKey();
        return Patient.RetryAsync(() => Checkpoints.CreateCheckpointAsync(name, key), cancellationToken);
    }

    /// <summary>All checkpoints, oldest first.</summary>
    public Task<IReadOnlyList<CheckpointInfo>> ListCheckpointsAsync(CancellationToken cancellationToken = default) =>
        Caller.RetryAsync(() => Checkpoints.ListCheckpointsAsync(), cancellationToken);

    /// <summary>Deletes a checkpoint. The one that a paused session would resume from is refused with <see cref="SandboxErrorCode.Conflict"/>.</summary>
    public Task DeleteCheckpointAsync(string checkpointId, CancellationToken cancellationToken = default) =>
        Caller.OnceAsync(() => Checkpoints.DeleteCheckpointAsync(checkpointId), cancellationToken);

    /// <summary>Puts the session back to a checkpoint, under the same id, and waits until it runs.</summary>
    /// <exception cref="SandboxException">As <see cref="ISessionCheckpoints.RollbackAsync"/>, and as <see cref="WaitUntilRunningAsync"/>.</exception>
    public async Task<SessionInfo> RollbackAsync(string checkpointId, CancellationToken cancellationToken = default)
    {
        var key = SandboxClient.NewKey();
        await Caller.RetryAsync(() => Checkpoints.RollbackAsync(checkpointId, key), cancellationToken);
        return await WaitUntilRunningAsync(cancellationToken);
    }

    /// <summary>Makes independent copies of the running session, which itself runs on, and waits until they run. If one does not, none is left and the error says why.</summary>
    /// <param name="count">1 to 100.</param>
    /// <param name="cancellationToken">Gives up waiting; copies that were made by then are removed.</param>
    /// <exception cref="SandboxException">As <see cref="ISessionCheckpoints.ForkAsync"/>, and as <see cref="WaitUntilRunningAsync"/>.</exception>
    public async Task<IReadOnlyList<SandboxSession>> ForkAsync(int count = 1, CancellationToken cancellationToken = default)
    {
        var key = SandboxClient.NewKey();
        var made = await Patient.RetryAsync(() => Checkpoints.ForkAsync(count, key), cancellationToken);
        List<SandboxSession> forks = [.. made.Select(info => new SandboxSession(Client, _grains, info.Id, Caller))];
        try
        {
            await Task.WhenAll(forks.Select(f => f.WaitUntilRunningAsync(cancellationToken)));
            return forks;
        }
        catch
        {
            // The caller gets no handle to any of them, so nobody would ever end them.
            await ((Task)Task.WhenAll(forks.Select(f => f.TerminateAsync(CancellationToken.None)))).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            throw;
        }
    }
}
