using Sandbox.Abstractions;

namespace Sandbox.Grains.Sessions.State;

/// <summary>The newer executions, running ones among them: written at each start and end, so kept small.</summary>
[GenerateSerializer, Alias("sandbox.state.executions"), Immutable]
internal sealed record ExecutionsDocument
{
    /// <summary>Oldest first.</summary>
    [Id(0)] public List<ExecutionInfo> Entries { get; init; } = [];

    /// <summary>Idempotency keys of starts: in the same document as what they started, so that one write decides both.</summary>
    [Id(1)] public List<IdempotencyRecord> Keys { get; init; } = [];

    /// <summary>Some are in the archive, which is not read where this is unset.</summary>
    [Id(2)] public bool HasArchive { get; init; }
}

/// <summary>Older, ended executions: written once for every <see cref="ExecutionIndex.ArchiveRun"/> of them.</summary>
[GenerateSerializer, Alias("sandbox.state.execution-archive"), Immutable]
internal sealed record ExecutionArchive
{
    /// <summary>Oldest first.</summary>
    [Id(0)] public List<ExecutionInfo> Entries { get; init; } = [];
}
