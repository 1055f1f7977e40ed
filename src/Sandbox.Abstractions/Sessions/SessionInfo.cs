namespace Sandbox.Abstractions;

/// <summary>A session as its owner sees it.</summary>
[GenerateSerializer, Alias("sandbox.session-info"), Immutable]
public sealed record SessionInfo
{
    /// <summary>Session id, <c>ses_</c> and 26 letters and digits.</summary>
    [Id(0)] public required string Id { get; init; }

    /// <summary>Owner.</summary>
    [Id(1)] public required string Tenant { get; init; }

    /// <summary>State now.</summary>
    [Id(2)] public required SessionState State { get; init; }

    /// <summary>Why it is in that state, where that is not obvious (<c>idle for 30 minutes</c>, <c>the microVM ended: …</c>).</summary>
    [Id(3)] public string? Cause { get; init; }

    /// <summary>Template id.</summary>
    [Id(4)] public required string Template { get; init; }

    /// <summary>Version of the template the session was made from.</summary>
    [Id(5)] public string? TemplateVersion { get; init; }

    /// <summary>Isolation backend.</summary>
    [Id(6)] public string? Backend { get; init; }

    /// <summary><c>kvm</c> or <c>tcg</c>, where the backend is QEMU.</summary>
    [Id(7)] public string? Accelerator { get; init; }

    /// <summary>Virtual CPUs.</summary>
    [Id(8)] public int Vcpus { get; init; }

    /// <summary>Memory in MiB.</summary>
    [Id(9)] public int MemoryMiB { get; init; }

    /// <summary>Writable disk in MiB.</summary>
    [Id(10)] public int DiskMiB { get; init; }

    /// <summary>Host that serves it now, or served it last.</summary>
    [Id(11)] public string? HostId { get; init; }

    /// <summary>MicroVM that serves it now.</summary>
    [Id(12)] public string? VmId { get; init; }

    /// <summary>Fencing number: rises before every new microVM.</summary>
    [Id(13)] public long Generation { get; init; }

    /// <summary>How the microVM came to be: <c>boot</c>, <c>clone</c>, <c>pool</c>, <c>restore</c>.</summary>
    [Id(14)] public string? StartMethod { get; init; }

    /// <summary>From the create or resume call to user code allowed.</summary>
    [Id(15)] public TimeSpan? StartDuration { get; init; }

    /// <summary>When it was created (UTC).</summary>
    [Id(16)] public DateTimeOffset CreatedAt { get; init; }

    /// <summary>When it came into its state (UTC).</summary>
    [Id(17)] public DateTimeOffset StateChangedAt { get; init; }

    /// <summary>Last activity (UTC).</summary>
    [Id(18)] public DateTimeOffset LastActivityAt { get; init; }

    /// <summary>When its lifetime ends (UTC).</summary>
    [Id(19)] public DateTimeOffset ExpiresAt { get; init; }

    /// <summary>Idle timeout.</summary>
    [Id(20)] public TimeSpan IdleTimeout { get; init; }

    /// <summary>Labels.</summary>
    [Id(21)] public Dictionary<string, string> Metadata { get; init; } = [];

    /// <summary>Each time the session lost its microVM and was brought back: what was kept and what was lost.</summary>
    [Id(22)] public IReadOnlyList<SessionRecovery> Recoveries { get; init; } = [];

    /// <summary>What its owner must know of its isolation, for example that TCG is no security boundary for upstream.</summary>
    [Id(23)] public IReadOnlyList<string> Warnings { get; init; } = [];

    /// <summary>What happens when it has been idle for <see cref="IdleTimeout"/>.</summary>
    [Id(24)] public IdleAction IdleAction { get; init; }

    /// <summary>When checkpoints are taken by themselves.</summary>
    [Id(25)] public CheckpointPolicy Checkpoints { get; init; } = new();

    /// <summary>The session and checkpoint it was made from, or <see langword="null"/>.</summary>
    [Id(26)] public SessionOrigin? Origin { get; init; }

    /// <summary>How long it may run at a time, or <see langword="null"/>.</summary>
    [Id(27)] public TimeSpan? RunLimit { get; init; }

    /// <summary>While it runs: when its run limit is reached (UTC), or <see langword="null"/>.</summary>
    [Id(28)] public DateTimeOffset? RunsUntil { get; init; }

    /// <summary>Calls that need the machine resume it.</summary>
    [Id(29)] public bool WakeOnCall { get; init; } = true;

    /// <summary>It is a saved state that never runs.</summary>
    [Id(30)] public bool Sealed { get; init; }
}

/// <summary>One recovery of a session.</summary>
/// <param name="At">When (UTC).</param>
/// <param name="Generation">The generation it came back with.</param>
/// <param name="Reason">Why the old microVM was gone.</param>
/// <param name="Kept">What survived, for example <c>files on disk</c>.</param>
/// <param name="Lost">What did not, for example <c>processes, variables</c>.</param>
/// <param name="Checkpoint">Number of the checkpoint it went on from, or <see langword="null"/> where it went on from its disk.</param>
[GenerateSerializer, Alias("sandbox.session-recovery"), Immutable]
public sealed record SessionRecovery(
    [property: Id(0)] DateTimeOffset At,
    [property: Id(1)] long Generation,
    [property: Id(2)] string Reason,
    [property: Id(3)] string Kept,
    [property: Id(4)] string Lost,
    [property: Id(5)] int? Checkpoint = null);
