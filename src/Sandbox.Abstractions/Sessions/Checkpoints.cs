namespace Sandbox.Abstractions;

/// <summary>Why a checkpoint was taken.</summary>
[GenerateSerializer, Alias("sandbox.checkpoint-kind")]
public enum CheckpointKind
{
    /// <summary>Somebody asked for it. Kept until it is deleted.</summary>
    Named = 0,

    /// <summary>The session was paused. The newest two of these and of <see cref="Automatic"/> together are kept.</summary>
    Pause = 1,

    /// <summary>The session's <see cref="CheckpointPolicy"/> asked for it.</summary>
    Automatic = 2,

    /// <summary>The session was forked. Removed an hour later: each fork has its own.</summary>
    Fork = 3,

    /// <summary>The state this session began with: it is a fork, or was made from a checkpoint. Counts as <see cref="Pause"/>.</summary>
    Origin = 4,
}

/// <summary>A checkpoint: memory, disk, and running executions of a session at one moment.</summary>
[GenerateSerializer, Alias("sandbox.checkpoint-info"), Immutable]
public sealed record CheckpointInfo
{
    /// <summary>Checkpoint id, <c>chk_</c> and 26 letters and digits.</summary>
    [Id(0)] public required string Id { get; init; }

    /// <summary>Its session.</summary>
    [Id(1)] public required string SessionId { get; init; }

    /// <summary>1, 2, 3 … in its session; what <c>recovered from checkpoint N</c> names.</summary>
    [Id(2)] public required int Number { get; init; }

    /// <summary>The caller's name for it, or <see langword="null"/>.</summary>
    [Id(3)] public string? Name { get; init; }

    /// <summary>Why it was taken.</summary>
    [Id(4)] public required CheckpointKind Kind { get; init; }

    /// <summary>When (UTC).</summary>
    [Id(5)] public required DateTimeOffset CreatedAt { get; init; }

    /// <summary>Bytes it added to the snapshot store.</summary>
    [Id(6)] public long StoredBytes { get; init; }

    /// <summary>Memory that differed from the golden snapshot, in bytes.</summary>
    [Id(7)] public long MemoryBytes { get; init; }

    /// <summary>Disk that differed from the golden snapshot, in bytes.</summary>
    [Id(8)] public long DiskBytes { get; init; }

    /// <summary>How long the session stood still for it.</summary>
    [Id(9)] public TimeSpan Stopped { get; init; }

    /// <summary>How long it took in all.</summary>
    [Id(10)] public TimeSpan Duration { get; init; }

    /// <summary>Executions that were running.</summary>
    [Id(11)] public IReadOnlyList<string> RunningExecutions { get; init; } = [];
}

/// <summary>When checkpoints are taken by themselves. A session whose host is lost goes on from its newest one.</summary>
[GenerateSerializer, Alias("sandbox.checkpoint-policy"), Immutable]
public sealed record CheckpointPolicy
{
    /// <summary>Whenever nothing has run and nobody has called for ten seconds, once for each such time.</summary>
    [Id(0)] public bool OnIdle { get; init; }

    /// <summary>So often while the session is in use; 10 s to 1 day.</summary>
    [Id(1)] public TimeSpan? Every { get; init; }

    /// <summary>After each execution, when the next one has not begun yet.</summary>
    [Id(2)] public bool AfterEachExecution { get; init; }
}

/// <summary>What becomes of a session that has been idle for its idle timeout.</summary>
[GenerateSerializer, Alias("sandbox.idle-action")]
public enum IdleAction
{
    /// <summary>It is paused, where its backend can; else it ends.</summary>
    Pause = 0,

    /// <summary>It ends, and what it held is removed.</summary>
    Terminate = 1,
}

/// <summary>A checkpoint of one's own to begin a new session with.</summary>
[GenerateSerializer, Alias("sandbox.checkpoint-reference"), Immutable]
public sealed record CheckpointReference([property: Id(0)] string SessionId, [property: Id(1)] string CheckpointId);

/// <summary>Where a session comes from.</summary>
/// <param name="SessionId">The session it was forked from.</param>
/// <param name="CheckpointId">The checkpoint of that session.</param>
/// <param name="At">When that checkpoint was taken (UTC).</param>
[GenerateSerializer, Alias("sandbox.session-origin"), Immutable]
public sealed record SessionOrigin([property: Id(0)] string SessionId, [property: Id(1)] string CheckpointId, [property: Id(2)] DateTimeOffset At);
