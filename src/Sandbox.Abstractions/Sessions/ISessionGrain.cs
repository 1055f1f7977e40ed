using Orleans.Concurrency;

namespace Sandbox.Abstractions;

/// <summary>
/// A session: what a user owns. Key: session id. Owns the durable state machine, the generation, the execution index and the timers.
/// Every call carries the tenant (see <see cref="TenantContext"/>); a session of another tenant answers <see cref="SandboxErrorCode.NotFound"/>.
/// The same grain serves <see cref="ISessionExecutions"/>, <see cref="ISessionContexts"/> and <see cref="ISessionFiles"/>.
/// </summary>
[Alias("sandbox.ISessionGrain")]
public interface ISessionGrain : IGrainWithStringKey
{
    /// <summary>
    /// Creates the session and begins to start its microVM; returns in state <see cref="SessionState.Creating"/>. Follow with <see cref="WaitUntilSettledAsync"/>.
    /// </summary>
    /// <param name="request">What is asked; validated here.</param>
    /// <param name="idempotencyKey">The same key again returns the same session; another key for an existing session is <see cref="SandboxErrorCode.AlreadyExists"/>.</param>
    [Alias("create")]
    Task<SessionInfo> CreateAsync(CreateSessionRequest request, string? idempotencyKey);

    /// <summary>The session now.</summary>
    [Alias("get"), AlwaysInterleave]
    Task<SessionInfo> GetAsync();

    /// <summary>Returns as soon as the session is in no transitional state (Creating, Pausing, Resuming), or after <paramref name="wait"/> (at most 20 s).</summary>
    [Alias("wait"), AlwaysInterleave]
    Task<SessionInfo> WaitUntilSettledAsync(TimeSpan wait);

    /// <summary>Changes how long the session may be idle and may live. Unset values stay.</summary>
    [Alias("set-timeouts")]
    Task<SessionInfo> SetTimeoutsAsync(TimeSpan? idleTimeout, TimeSpan? maxLifetime, string? idempotencyKey);

    /// <summary>
    /// Gives a session that runs a new <see cref="CreateSessionRequest.RunLimit"/>, counted from now. One that is paused, or being created or resumed, gets it when it runs.
    /// </summary>
    /// <param name="limit">1 s to 30 days.</param>
    /// <param name="onlyLater">Changes nothing where it may run longer already.</param>
    [Alias("set-run-limit")]
    Task<SessionInfo> SetRunLimitAsync(TimeSpan limit, bool onlyLater);

    /// <summary>Ends the session and removes its microVM, disk and outputs. Ending an ended session changes nothing and is no error.</summary>
    [Alias("terminate")]
    Task<SessionInfo> TerminateAsync(string? idempotencyKey);

    /// <summary>Resources used inside the microVM.</summary>
    [Alias("metrics"), AlwaysInterleave]
    Task<SessionMetrics> GetMetricsAsync();

    /// <summary>Called by the host when a microVM ended by itself. Ignored for any generation but the current one.</summary>
    [Alias("microvm-ended")]
    Task OnMicroVmEndedAsync(long generation, string reason);

    /// <summary>Called by the host when an execution ended. Ignored for any generation but the current one.</summary>
    [Alias("execution-ended")]
    Task OnExecutionEndedAsync(long generation, string executionId, ExecutionExit exit);
}

/// <summary>Resources used inside a microVM.</summary>
[GenerateSerializer, Alias("sandbox.session-metrics"), Immutable]
public sealed record SessionMetrics
{
    /// <summary>Memory of the guest in bytes.</summary>
    [Id(0)] public long MemoryTotal { get; init; }

    /// <summary>Memory available in the guest in bytes.</summary>
    [Id(1)] public long MemoryAvailable { get; init; }

    /// <summary>Writable disk in bytes.</summary>
    [Id(2)] public long DiskTotal { get; init; }

    /// <summary>Free disk in bytes.</summary>
    [Id(3)] public long DiskFree { get; init; }

    /// <summary>Virtual CPUs.</summary>
    [Id(4)] public int Vcpus { get; init; }

    /// <summary>CPU time used since boot over all vCPUs.</summary>
    [Id(5)] public TimeSpan CpuBusy { get; init; }

    /// <summary>Processes in the guest.</summary>
    [Id(6)] public int Processes { get; init; }

    /// <summary>Load average over one minute.</summary>
    [Id(7)] public double Load1 { get; init; }

    /// <summary>The guest's clock (UTC).</summary>
    [Id(8)] public DateTimeOffset GuestTime { get; init; }

    /// <summary>Time since the guest booted.</summary>
    [Id(9)] public TimeSpan Uptime { get; init; }
}
