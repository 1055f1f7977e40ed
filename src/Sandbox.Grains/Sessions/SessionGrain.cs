using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Options;
using Sandbox.Abstractions;
using Sandbox.Grains.Sessions.State;
using Sandbox.Grains.Tenants;
using Sandbox.Snapshots;
using Sandbox.Snapshots.Artifacts;

namespace Sandbox.Grains.Sessions;

/// <summary>
/// A session. What is true of it is what is stored (<see cref="Durable{T}"/>); everything else here can be lost with the activation. Calls interleave, so no method
/// trusts what it read before an <c>await</c>: changes are functions of the stored document.
/// </summary>
[System.Diagnostics.CodeAnalysis.SuppressMessage("Design", "CA1001", Justification = "A SemaphoreSlim whose wait handle nobody asks for holds nothing.")]
internal sealed partial class SessionGrain : Grain, ISessionGrain, ISessionCheckpoints, ISessionExecutions, ISessionContexts, ISessionFiles, ISessionPorts, ISessionArtifacts, ISessionEgress, ISessionSeeds, ISessionDrain,
    IRemindable, ITenantOwned
{
    private readonly SessionOptions _options;
    private readonly IGrainFactory _grains;
    private readonly ILogger<SessionGrain> _logger;
    private readonly TimeProvider _clock;
    private readonly SnapshotStore? _snapshots;
    private readonly ArtifactStore? _artifacts;
    private readonly Durable<SessionDocument> _session;
    private readonly Durable<ExecutionsDocument> _recent;
    private readonly ExecutionIndex _executions;
    private readonly List<TaskCompletionSource> _settling = [];
    private DateTimeOffset _lastActivity;

    public SessionGrain(
        [PersistentState("session", StorageNames.Provider)] IPersistentState<SessionDocument> session,
        IOptions<SessionOptions> options,
        IGrainFactory grains,
        IServiceProvider services,
        ILogger<SessionGrain> logger)
    {
        _options = options.Value;
        _grains = grains;
        _logger = logger;
        _clock = SandboxClock.Of(services);
        _snapshots = services.GetService<SnapshotStore>();
        _artifacts = services.GetService<ArtifactStore>();
        _session = new Durable<SessionDocument>(session, "The session's state", logger, DeactivateOnIdle);
        _recent = new Durable<ExecutionsDocument>(new OnDemandState<ExecutionsDocument>(services, "executions", this.GetGrainId()), "The session's executions", logger, DeactivateOnIdle);
        var archive = new OnDemandState<ExecutionArchive>(services, "execution-archive", this.GetGrainId());
        _executions = new ExecutionIndex(_recent, new Durable<ExecutionArchive>(archive, "The session's older executions", logger, DeactivateOnIdle));
    }

    /// <inheritdoc/>
    public string? Tenant => Document.State == SessionState.None ? null : Document.Tenant;

    private string Id => this.GetPrimaryKeyString();

    private SessionDocument Document => _session.Current;

    private DateTimeOffset Now => _clock.GetUtcNow();

    /// <inheritdoc/>
    public override async Task OnActivateAsync(CancellationToken cancellationToken)
    {
        _session.Load();
        if (Document.State != SessionState.None)
        {
            await _executions.LoadAsync();
        }

        _lastActivity = Document.LastActivityAt;
        if (Document.State is not (SessionState.None or SessionState.Paused))
        {
            StartClock();
        }

        if (Document.State is SessionState.Creating or SessionState.Resuming)
        {
            // The start was interrupted: the silo that ran it is gone. A new generation makes sure that whatever it still does is refused.
            if (Document.State == SessionState.Creating)
            {
                _ = QuietlyAsync(() => IndexShard(Document.Tenant).AddAsync(Id, Document.CreatedAt), "entering the session into the index");
            }

            BeginBringUp();
        }

        ContinuePause();
    }

    /// <inheritdoc/>
    public override async Task OnDeactivateAsync(DeactivationReason reason, CancellationToken cancellationToken)
    {
        // Work beside the calls is not a call: Orleans does not wait for it, and what it writes afterwards would be refused. What a stopping silo cuts short, the next activation takes up.
        var bound = reason.ReasonCode == DeactivationReasonCode.ShuttingDown ? TimeSpan.FromSeconds(2) : TimeSpan.FromSeconds(30);
        await Task.WhenAny(Task.WhenAll(_bringUp, _pause, _automatic), Task.Delay(bound, cancellationToken));
        if (Document.State == SessionState.Running && _lastActivity > Document.LastActivityAt && reason.ReasonCode != DeactivationReasonCode.ActivationFailed)
        {
            try
            {
                await StoreActivityAsync();
            }
            catch (SandboxException e)
            {
                _logger.LogDebug(e, "The last activity of session {Session} was not stored", Id);
            }
        }
    }

    private SessionInfo Info() => Document.ToInfo(_lastActivity > Document.LastActivityAt ? _lastActivity : Document.LastActivityAt);

    private void Touch() => _lastActivity = Now;

    private void RequireExists()
    {
        if (Document.State == SessionState.None)
        {
            throw SandboxException.NotFound($"There is no session '{Id}'.");
        }
    }

    /// <summary>Wakes everybody who waits for the session to settle.</summary>
    private void Announce()
    {
        if (Document.IsTransitional)
        {
            return;
        }

        foreach (var waiter in _settling)
        {
            waiter.TrySetResult();
        }

        _settling.Clear();
    }

    private async Task WaitSettledAsync(TimeSpan wait)
    {
        if (!Document.IsTransitional || wait <= TimeSpan.Zero)
        {
            return;
        }

        var waiter = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        _settling.Add(waiter);

        // Not beside a delay, which would outlive the wait: at every create one more, for a quarter of a minute.
        await waiter.Task.WaitAsync(wait).ConfigureAwait(ConfigureAwaitOptions.ContinueOnCapturedContext | ConfigureAwaitOptions.SuppressThrowing);
        _settling.Remove(waiter);
    }
}
