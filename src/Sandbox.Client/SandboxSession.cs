using Sandbox.Abstractions;

namespace Sandbox.Client;

/// <summary>One session.</summary>
public sealed class SandboxSession
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(15);
    private readonly IGrainFactory _grains;

    internal SandboxSession(SandboxClient client, IGrainFactory grains, string id)
    {
        ArgumentException.ThrowIfNullOrEmpty(id);
        Client = client;
        _grains = grains;
        Id = id;
        Files = new SandboxFiles(this);
    }

    /// <summary>Session id.</summary>
    public string Id { get; }

    /// <summary>Its files.</summary>
    public SandboxFiles Files { get; }

    internal SandboxClient Client { get; }

    internal ISessionGrain Lifecycle => _grains.GetGrain<ISessionGrain>(Id);

    internal ISessionExecutions Executions => _grains.GetGrain<ISessionExecutions>(Id);

    internal ISessionContexts Contexts => _grains.GetGrain<ISessionContexts>(Id);

    internal ISessionFiles FileCalls => _grains.GetGrain<ISessionFiles>(Id);

    /// <summary>The session now.</summary>
    public Task<SessionInfo> GetAsync(CancellationToken cancellationToken = default) => Client.Caller.RetryAsync(() => Lifecycle.GetAsync(), cancellationToken);

    /// <summary>Waits until the session runs.</summary>
    /// <exception cref="SandboxException"><see cref="SandboxErrorCode.Conflict"/>: it ended instead; <see cref="SandboxErrorCode.DeadlineExceeded"/>: it still does not run.</exception>
    public async Task<SessionInfo> WaitUntilRunningAsync(CancellationToken cancellationToken = default)
    {
        var until = Environment.TickCount64 + (long)Client.Options.StartDeadline.TotalMilliseconds;
        while (true)
        {
            var info = await Client.Caller.RetryAsync(() => Lifecycle.WaitUntilSettledAsync(Patience), cancellationToken);
            switch (info.State)
            {
                case SessionState.Running:
                    return info;
                case SessionState.Terminated or SessionState.Failed:
                    throw SandboxException.Conflict($"Session {Id} is {(info.State == SessionState.Failed ? "failed" : "terminated")}: {info.Cause}");
            }

            if (Environment.TickCount64 > until)
            {
                throw new SandboxException(SandboxErrorCode.DeadlineExceeded, $"Session {Id} does not run after {Client.Options.StartDeadline.TotalSeconds:0} s.");
            }
        }
    }

    /// <summary>Starts an execution.</summary>
    /// <param name="request">What to run.</param>
    /// <param name="idempotencyKey">Makes repeated calls one; <see langword="null"/>: a fresh one, which covers the retries of this call.</param>
    /// <param name="cancellationToken">Gives up waiting for the answer.</param>
    public async Task<SandboxExecution> StartAsync(ExecutionRequest request, string? idempotencyKey = null, CancellationToken cancellationToken = default)
    {
        var key = idempotencyKey ?? SandboxClient.NewKey();
        var info = await Client.Caller.RetryAsync(() => Executions.StartExecutionAsync(request, key), cancellationToken);
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
        new(this, _grains, await Client.Caller.RetryAsync(() => Executions.GetExecutionAsync(executionId), cancellationToken));

    /// <summary>Executions, newest first.</summary>
    public Task<IReadOnlyList<ExecutionInfo>> ListExecutionsAsync(int limit = 100, CancellationToken cancellationToken = default) =>
        Client.Caller.RetryAsync(() => Executions.ListExecutionsAsync(limit), cancellationToken);

    /// <summary>Makes a context.</summary>
    public Task<ContextInfo> CreateContextAsync(CreateContextRequest request, CancellationToken cancellationToken = default) =>
        Client.Caller.OnceAsync(() => Contexts.CreateContextAsync(request), cancellationToken);

    /// <summary>All contexts.</summary>
    public Task<IReadOnlyList<ContextInfo>> ListContextsAsync(CancellationToken cancellationToken = default) =>
        Client.Caller.RetryAsync(() => Contexts.ListContextsAsync(), cancellationToken);

    /// <summary>Starts a context's interpreter afresh under the same id.</summary>
    public Task<ContextInfo> RestartContextAsync(string contextId, CancellationToken cancellationToken = default) =>
        Client.Caller.OnceAsync(() => Contexts.RestartContextAsync(contextId), cancellationToken);

    /// <summary>Ends and removes a context.</summary>
    public Task RemoveContextAsync(string contextId, CancellationToken cancellationToken = default) =>
        Client.Caller.OnceAsync(() => Contexts.RemoveContextAsync(contextId), cancellationToken);

    /// <summary>Resources used inside the microVM.</summary>
    public Task<SessionMetrics> GetMetricsAsync(CancellationToken cancellationToken = default) =>
        Client.Caller.RetryAsync(() => Lifecycle.GetMetricsAsync(), cancellationToken);

    /// <summary>Changes how long the session may be idle and may live. <see langword="null"/>: stays.</summary>
    public Task<SessionInfo> SetTimeoutsAsync(TimeSpan? idleTimeout, TimeSpan? maxLifetime, CancellationToken cancellationToken = default)
    {
        var key = SandboxClient.NewKey();
        return Client.Caller.RetryAsync(() => Lifecycle.SetTimeoutsAsync(idleTimeout, maxLifetime, key), cancellationToken);
    }

    /// <summary>Ends the session and removes its microVM, disk and outputs.</summary>
    public Task<SessionInfo> TerminateAsync(CancellationToken cancellationToken = default)
    {
        var key = SandboxClient.NewKey();
        return Client.Caller.RetryAsync(() => Lifecycle.TerminateAsync(key), cancellationToken);
    }
}
