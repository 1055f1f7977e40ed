namespace Sandbox.Abstractions;

/// <summary>Whether an execution still runs.</summary>
[GenerateSerializer, Alias("sandbox.execution-state")]
public enum ExecutionState
{
    /// <summary>Accepted; the guest has not started it yet.</summary>
    Starting = 0,

    /// <summary>It runs.</summary>
    Running = 1,

    /// <summary>It ended; <see cref="ExecutionInfo.Exit"/> says how.</summary>
    Ended = 2,
}

/// <summary>One command or piece of code run inside a session.</summary>
[GenerateSerializer, Alias("sandbox.execution-info"), Immutable]
public sealed record ExecutionInfo
{
    /// <summary>Execution id, <c>exe_</c> and 26 letters and digits.</summary>
    [Id(0)] public required string Id { get; init; }

    /// <summary>Its session.</summary>
    [Id(1)] public required string SessionId { get; init; }

    /// <summary>Host whose output log holds its output.</summary>
    [Id(2)] public required string HostId { get; init; }

    /// <summary>State.</summary>
    [Id(3)] public required ExecutionState State { get; init; }

    /// <summary>The command line or the first line of the code, clipped to 256 characters, for people.</summary>
    [Id(4)] public required string Title { get; init; }

    /// <summary>Context, for code.</summary>
    [Id(5)] public string? ContextId { get; init; }

    /// <summary>Process id inside the guest.</summary>
    [Id(6)] public int Pid { get; init; }

    /// <summary>When it started (UTC).</summary>
    [Id(7)] public DateTimeOffset StartedAt { get; init; }

    /// <summary>When it ended (UTC).</summary>
    [Id(8)] public DateTimeOffset? EndedAt { get; init; }

    /// <summary>How it ended.</summary>
    [Id(9)] public ExecutionExit? Exit { get; init; }

    /// <summary>Generation of the microVM it started in.</summary>
    [Id(10)] public long Generation { get; init; }

    /// <summary>It has a terminal.</summary>
    [Id(11)] public bool HasPty { get; init; }

    /// <summary>The execution that this one is the continuation of, after a rollback or in a fork; its output begins where that one stood.</summary>
    [Id(12)] public string? ContinuedFrom { get; init; }

    /// <summary>The caller's own name for it, as <see cref="ExecutionRequest.Tag"/> gave it.</summary>
    [Id(13)] public string? Tag { get; init; }

    /// <summary>The command, while it runs: clipped to 4096 characters in all, its last entry then ending in an ellipsis. <see langword="null"/> for code, and after its end.</summary>
    [Id(14)] public IReadOnlyList<string>? Argv { get; init; }

    /// <summary>The working directory that was asked for.</summary>
    [Id(15)] public string? Cwd { get; init; }
}
