using Sandbox.Abstractions;

namespace Sandbox.Grains.Sessions.State;

/// <summary>A checkpoint as its session remembers it. Its id is also the snapshot's in the store.</summary>
[GenerateSerializer, Alias("sandbox.state.checkpoint"), Immutable]
internal sealed record CheckpointDocument
{
    [Id(0)] public string Id { get; init; } = "";

    [Id(1)] public int Number { get; init; }

    [Id(2)] public string? Name { get; init; }

    [Id(3)] public CheckpointKind Kind { get; init; }

    [Id(4)] public DateTimeOffset CreatedAt { get; init; }

    [Id(5)] public long StoredBytes { get; init; }

    [Id(6)] public long MemoryBytes { get; init; }

    [Id(7)] public long DiskBytes { get; init; }

    [Id(8)] public TimeSpan Stopped { get; init; }

    [Id(9)] public TimeSpan Duration { get; init; }

    /// <summary>The contexts there were. Generation 1: its interpreter lived in the machine; 0: it is made when it is next used.</summary>
    [Id(10)] public List<ContextDocument> Contexts { get; init; } = [];

    /// <summary>The executions that ran, as they were known.</summary>
    [Id(11)] public List<ExecutionInfo> Executions { get; init; } = [];

    public CheckpointInfo ToInfo(string sessionId) => new()
    {
        Id = Id,
        SessionId = sessionId,
        Number = Number,
        Name = Name,
        Kind = Kind,
        CreatedAt = CreatedAt,
        StoredBytes = StoredBytes,
        MemoryBytes = MemoryBytes,
        DiskBytes = DiskBytes,
        Stopped = Stopped,
        Duration = Duration,
        RunningExecutions = [.. Executions.Select(e => e.Id)],
    };
}

/// <summary>What a session brings back from: which checkpoint, and how.</summary>
[GenerateSerializer, Alias("sandbox.state.resume-point"), Immutable]
internal sealed record ResumePoint
{
    [Id(0)] public string CheckpointId { get; init; } = "";

    /// <summary>Executions keep their ids: nothing has happened since the checkpoint. Otherwise they go on under new ones, because their logs went on, or are another session's.</summary>
    [Id(1)] public bool KeepIds { get; init; }

    /// <summary>It is a recovery, which the session tells its owner of.</summary>
    [Id(2)] public bool IsRecovery { get; init; }

    /// <summary>What the session says once it runs, or <see langword="null"/>.</summary>
    [Id(3)] public string? Remark { get; init; }

    /// <summary>Snapshot of another session that the checkpoint's is made a copy of first.</summary>
    [Id(4)] public string? CopyOf { get; init; }

    /// <summary>How many sessions are made from it at once.</summary>
    [Id(5)] public int Siblings { get; init; } = 1;
}
