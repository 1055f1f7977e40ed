using Sandbox.Abstractions;

namespace Sandbox.Client;

/// <summary>One session.</summary>
public sealed partial class SandboxSession
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(15);
    private readonly IGrainFactory _grains;

    internal SandboxSession(SandboxClient client, IGrainFactory grains, string id, Caller? caller = null)
    {
        ArgumentException.ThrowIfNullOrEmpty(id);
        Client = client;
        Caller = caller ?? client.Caller;
        _grains = grains;
        Id = id;
        Files = new SandboxFiles(this);
    }

    /// <summary>Session id.</summary>
    public string Id { get; }

    /// <summary>Its files.</summary>
    public SandboxFiles Files { get; }

    internal SandboxClient Client { get; }

    internal Caller Caller { get; }

    internal ISessionGrain Lifecycle => _grains.GetGrain<ISessionGrain>(Id);

    internal ISessionExecutions Executions => _grains.GetGrain<ISessionExecutions>(Id);

    internal ISessionContexts Contexts => _grains.GetGrain<ISessionContexts>(Id);

    internal ISessionFiles FileCalls => _grains.GetGrain<ISessionFiles>(Id);

    /// <summary>
    /// The same session, whose calls (and those of its <see cref="Files"/> and executions) say whether they may resume it if it is paused. Without a choice they may. One that may not is refused with
    /// <see cref="SandboxErrorCode.Conflict"/> on a paused session, and changes nothing.
    /// </summary>
    public SandboxSession WithWake(bool mayWake) => new(Client, _grains, Id, Caller.WithWake(mayWake));

    /// <summary>The session now. Never wakes it.</summary>
    public Task<SessionInfo> GetAsync(CancellationToken cancellationToken = default) => Caller.RetryAsync(() => Lifecycle.GetAsync(), cancellationToken);

    /// <summary>Waits until the session runs.</summary>
    /// <exception cref="SandboxException"><see cref="SandboxErrorCode.Conflict"/>: it ended or is paused instead; <see cref="SandboxErrorCode.DeadlineExceeded"/>: it still does not run.</exception>
    public async Task<SessionInfo> WaitUntilRunningAsync(CancellationToken cancellationToken = default)
    {
        var info = await WaitUntilSettledAsync(cancellationToken);
        return info.State switch
        {
            SessionState.Running => info,
            SessionState.Paused => throw SandboxException.Conflict($"Session {Id} is paused{Why(info)}. Resume it first."),
            SessionState.Terminated or SessionState.Failed => throw SandboxException.Conflict($"Session {Id} is {Word(info.State)}{Why(info)}"),
            _ => throw new SandboxException(SandboxErrorCode.DeadlineExceeded, $"Session {Id} does not run after {Client.Options.StartDeadline.TotalSeconds:0} s: it is {Word(info.State)}."),
        };
    }

    /// <summary>Starts an execution.</summary>
    /// <param name="request">What to run.</param>
    /// <param name="idempotencyKey">Makes repeated calls one; <see langword="null"/>: a fresh one, which covers the retries of this call.</param>
    /// <param name="cancellationToken">Gives up waiting for the answer.</param>
    public async Task<SandboxExecution> StartAsync(ExecutionRequest request, string? idempotencyKey = null, CancellationToken cancellationToken = default)
    {
        var key = idempotencyKey ?? SandboxClient.NewKey();
        var info = await Caller.RetryAsync(() => Executions.StartExecutionAsync(request, key), cancellationToken);
        return new SandboxExecution(this, _grains, info);
    }

    /// <summary>Starts a program without a shell.</summary>
    public Task<SandboxExecution> StartCommandAsync(IReadOnlyList<string> argv, CancellationToken cancellationToken = default) =>
        StartAsync(new ExecutionRequest { Argv = argv }, null, cancellationToken);

    /// <summary>Starts a shell command line.</summary>
    public Task<SandboxExecution> StartShellAsync(string commandLine, CancellationToken cancellationToken = default) =>
        StartAsync(new ExecutionRequest { Shell = commandLine }, null, cancellationToken);

    /// <summary>Starts code in a context (<see langword="null"/>: the session's default context of the language).</summary>
    public Task<SandboxExecution> StartCodeAsync(string code, string language = "python", string? contextId = null, CancellationToken cancellationToken = default) =>
        StartAsync(new ExecutionRequest { Code = code, ContextId = contextId, Language = contextId is null ? language : null }, null, cancellationToken);

    /// <summary>An execution by id.</summary>
    public async Task<SandboxExecution> GetExecutionAsync(string executionId, CancellationToken cancellationToken = default) =>
        new(this, _grains, await Caller.RetryAsync(() => Executions.GetExecutionAsync(executionId), cancellationToken));

    /// <summary>Executions, newest first.</summary>
    public Task<IReadOnlyList<ExecutionInfo>> ListExecutionsAsync(int limit = 100, CancellationToken cancellationToken = default) =>
        Caller.RetryAsync(() => Executions.ListExecutionsAsync(limit), cancellationToken);

    /// <summary>Makes a context.</summary>
    public Task<ContextInfo> CreateContextAsync(CreateContextRequest request, CancellationToken cancellationToken = default) =>
        Caller.OnceAsync(() => Contexts.CreateContextAsync(request), cancellationToken);

    /// <summary>All contexts.</summary>
    public Task<IReadOnlyList<ContextInfo>> ListContextsAsync(CancellationToken cancellationToken = default) =>
        Caller.RetryAsync(() => Contexts.ListContextsAsync(), cancellationToken);

    /// <summary>Starts a context's interpreter afresh under the same id.</summary>
    public Task<ContextInfo> RestartContextAsync(string contextId, CancellationToken cancellationToken = default) =>
        Caller.OnceAsync(() => Contexts.RestartContextAsync(contextId), cancellationToken);

    /// <summary>Ends and removes a context.</summary>
    public Task RemoveContextAsync(string contextId, CancellationToken cancellationToken = default) =>
        Caller.OnceAsync(() => Contexts.RemoveContextAsync(contextId), cancellationToken);

    /// <summary>Resources used inside the microVM.</summary>
    public Task<SessionMetrics> GetMetricsAsync(CancellationToken cancellationToken = default) =>
        Caller.RetryAsync(() => Lifecycle.GetMetricsAsync(), cancellationToken);

    /// <summary>Changes how long the session may be idle and may live. <see langword="null"/>: stays.</summary>
    public Task<SessionInfo> SetTimeoutsAsync(TimeSpan? idleTimeout, TimeSpan? maxLifetime, CancellationToken cancellationToken = default)
    {
        var key = SandboxClient.NewKey();
        return Caller.RetryAsync(() => Lifecycle.SetTimeoutsAsync(idleTimeout, maxLifetime, key), cancellationToken);
    }

    /// <summary>Lets a running session run so long from now on; see <see cref="CreateSessionRequest.RunLimit"/>.</summary>
    /// <param name="limit">1 s to 30 days.</param>
    /// <param name="onlyLater">Changes nothing where it may run longer already.</param>
    /// <param name="cancellationToken">Gives up waiting for the answer.</param>
    public Task<SessionInfo> SetRunLimitAsync(TimeSpan limit, bool onlyLater = false, CancellationToken cancellationToken = default) =>
        Caller.RetryAsync(() => Lifecycle.SetRunLimitAsync(limit, onlyLater), cancellationToken);

    /// <summary>Ends the session and removes its microVM, disk and outputs.</summary>
    public Task<SessionInfo> TerminateAsync(CancellationToken cancellationToken = default)
    {
        var key = SandboxClient.NewKey();
        return Caller.RetryAsync(() => Lifecycle.TerminateAsync(key), cancellationToken);
    }

    /// <summary>The session as soon as it is in no transitional state, or as it is when the start deadline has passed.</summary>
    private async Task<SessionInfo> WaitUntilSettledAsync(CancellationToken cancellationToken)
    {
        var until = Environment.TickCount64 + (long)Client.Options.StartDeadline.TotalMilliseconds;
        while (true)
        {
            var info = await Caller.RetryAsync(() => Lifecycle.WaitUntilSettledAsync(Patience), cancellationToken);
            if (info.State is not (SessionState.Creating or SessionState.Pausing or SessionState.Resuming) || Environment.TickCount64 > until)
            {
                return info;
            }
        }
    }

    private static string Word(SessionState state) => state.ToString().ToLowerInvariant();

    private static string Why(SessionInfo info) => info.Cause is { Length: > 0 } cause ? ": " + cause : "";
}
