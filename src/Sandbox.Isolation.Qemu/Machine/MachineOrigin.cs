using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Guest;
using Sandbox.Isolation.Qemu.Memory;

namespace Sandbox.Isolation.Qemu.Machine;

/// <summary>What a machine comes from: a boot, a golden snapshot, or a saved machine.</summary>
internal sealed record MachineOrigin
{
    /// <summary>What one that is saved will be; <see langword="null"/> for the probe's, which never is.</summary>
    public required MachineFacts? Facts { get; init; }

    /// <summary>The memory it maps privately, or <see langword="null"/> for one that has its own.</summary>
    public SharedMemoryBase? Base { get; init; }

    /// <summary>Keeps <see cref="Base"/> where it is of a saved machine. The microVM's from its start on.</summary>
    public SharedMemoryBases.Lease? Lease { get; init; }

    /// <summary>How it has memory in common with others; <see langword="null"/> for one that has its own.</summary>
    public MemorySharing? Sharing { get; init; }

    /// <summary>State of CPU and devices, and what is to be done before it is loaded; <see langword="null"/> for a boot.</summary>
    public Func<ProcessMemoryOpener, CancellationToken, Task<ReadOnlyMemory<byte>>>? LoadAsync { get; init; }

    /// <summary>Where QEMU opens the disk, if not yet in its place.</summary>
    public string? DiskPath { get; init; }

    /// <summary>The saved machine's channel, once <see cref="LoadAsync"/> is done.</summary>
    public Func<GuestMemo>? Memo { get; init; }

    /// <summary>Executions that go on.</summary>
    public IReadOnlyList<RestoredExecution> Executions { get; init; } = [];
}

/// <summary>Opens the new machine's memory, once its process has mapped it.</summary>
internal delegate ProcessMemory ProcessMemoryOpener();
