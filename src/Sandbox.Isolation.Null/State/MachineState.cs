using System.Text.Json.Serialization;

namespace Sandbox.Isolation.Null.State;

/// <summary>All that is inside a machine and not on its disk. What a save puts into the memory's pages.</summary>
internal sealed record MachineState
{
    public required Dictionary<string, string> Variables { get; init; }

    public required List<ContextState> Contexts { get; init; }

    /// <summary>In the order of their starts.</summary>
    public required List<ExecutionState> Executions { get; init; }

    public required uint LastPid { get; init; }
}

/// <summary>A context.</summary>
internal sealed record ContextState(byte[] Request, Dictionary<string, string> Variables, uint ExecutionCount);

/// <summary>An execution: how far its program is, and what it said that was not acknowledged.</summary>
internal sealed record ExecutionState
{
    /// <summary>The request that started it, as protobuf.</summary>
    public required byte[] Request { get; init; }

    public required uint Pid { get; init; }

    public long Step { get; init; }

    public bool Begun { get; init; }

    public bool Ending { get; init; }

    public bool TimedOut { get; init; }

    /// <summary>Its sleep is over and the program has not gone on yet.</summary>
    public bool Awake { get; init; }

    /// <summary>What is left of its sleep, or <see langword="null"/> if it does not sleep.</summary>
    public TimeSpan? Sleep { get; init; }

    /// <summary>What is left until its timeout, or until the kill after it.</summary>
    public TimeSpan? Limit { get; init; }

    /// <summary>How long it has run.</summary>
    public TimeSpan Ran { get; init; }

    public ulong Acknowledged { get; init; }

    /// <summary>Events after <see cref="Acknowledged"/>, as protobuf.</summary>
    public required List<byte[]> Retained { get; init; }

    /// <summary>Events that wait for room in the output window.</summary>
    public required List<byte[]> Waiting { get; init; }

    public required List<byte[]> Stdin { get; init; }

    public bool StdinEnded { get; init; }
}

/// <summary>What stands for CPU and devices: how to read the rest, and what it must be.</summary>
internal sealed record DeviceState(int Format, int StateBytes, string StateHash, int DirtyPages, int DirtySeed, string DiskHash);

/// <summary>What the host knows of the guest's channel.</summary>
internal sealed record ChannelMemo(int Format, List<string> Executions);

[JsonSerializable(typeof(MachineState))]
[JsonSerializable(typeof(DeviceState))]
[JsonSerializable(typeof(ChannelMemo))]
[JsonSerializable(typeof(List<DiskEntry>))]
internal sealed partial class StateJson : JsonSerializerContext;
