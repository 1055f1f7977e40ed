namespace Sandbox.Abstractions;

/// <summary>Why an execution ended.</summary>
[GenerateSerializer, Alias("sandbox.exit-reason")]
public enum ExitReason
{
    /// <summary>By itself, with an exit code.</summary>
    Exited = 0,

    /// <summary>By a signal that nobody here sent on purpose.</summary>
    Signaled = 1,

    /// <summary>Its timeout passed.</summary>
    TimedOut = 2,

    /// <summary>It needed more memory than there is.</summary>
    OutOfMemory = 3,

    /// <summary>A caller sent the signal that ended it.</summary>
    Killed = 4,

    /// <summary>Its microVM or host was lost under it.</summary>
    Lost = 5,

    /// <summary>It could not be started.</summary>
    NotStarted = 6,
}

/// <summary>How an execution ended: always the last record of its output log.</summary>
[GenerateSerializer, Alias("sandbox.execution-exit"), Immutable]
public sealed record ExecutionExit
{
    /// <summary>Why.</summary>
    [Id(0)] public required ExitReason Reason { get; init; }

    /// <summary>Exit code 0 to 255; for a signal 128 + its number, as a shell says it.</summary>
    [Id(1)] public required int ExitCode { get; init; }

    /// <summary>The signal that ended it, or 0.</summary>
    [Id(2)] public int Signal { get; init; }

    /// <summary>For people: <c>killed by SIGKILL 2 s after SIGTERM: the timeout of 10 s had passed</c>.</summary>
    [Id(3)] public string Message { get; init; } = "";

    /// <summary>The process limit was hit while it ran.</summary>
    [Id(4)] public bool ProcessLimitHit { get; init; }

    /// <summary>The writable disk was full when it ended.</summary>
    [Id(5)] public bool DiskFull { get; init; }

    /// <summary>The context's interpreter died; its variables are gone.</summary>
    [Id(6)] public bool ContextLost { get; init; }

    /// <summary>Output bytes kept in the log.</summary>
    [Id(7)] public long OutputBytes { get; init; }

    /// <summary>Output bytes dropped because of the output cap.</summary>
    [Id(8)] public long DroppedBytes { get; init; }

    /// <summary>Wall time.</summary>
    [Id(9)] public TimeSpan WallTime { get; init; }

    /// <summary>CPU time.</summary>
    [Id(10)] public TimeSpan CpuTime { get; init; }

    /// <summary>Most memory used, in bytes; 0 where the guest kernel does not say.</summary>
    [Id(11)] public long PeakMemoryBytes { get; init; }
}
