using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Firecracker.Memory;
using Sandbox.Isolation.Guest;

namespace Sandbox.Isolation.Firecracker.Machine;

/// <summary>What a machine comes from: a boot, a golden snapshot, or a saved machine.</summary>
internal sealed record MachineOrigin
{
    /// <summary>What one that is saved will be; <see langword="null"/> for the probe's, which never is.</summary>
    public required MachineFacts? Facts { get; init; }

    /// <summary>The golden snapshot that it is a difference from, or <see langword="null"/>.</summary>
    public GoldenSnapshot? Golden { get; init; }

    /// <summary>The memory it is loaded with, or <see langword="null"/> for a boot. Kept by the machine from its start on.</summary>
    public MemoryFile? Memory { get; init; }

    /// <summary>State of CPU and devices that it is loaded with.</summary>
    public ReadOnlyMemory<byte> State { get; init; }

    /// <summary>Where the disk is opened, if not yet in its place.</summary>
    public string? DiskPath { get; init; }

    /// <summary>The saved machine's channel.</summary>
    public GuestMemo? Memo { get; init; }

    /// <summary>Executions that go on.</summary>
    public IReadOnlyList<RestoredExecution> Executions { get; init; } = [];
}
