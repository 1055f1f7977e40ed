using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Guest;

namespace Sandbox.Isolation.Oci.Machine;

/// <summary>What a container comes from: nothing but its disk, or a checkpoint.</summary>
internal sealed record ContainerOrigin
{
    /// <summary>Names what one that is saved depends on.</summary>
    public required string Fingerprint { get; init; }

    /// <summary>Where the disk is while it is not yet in its place.</summary>
    public string? DiskPath { get; init; }

    /// <summary>Directory of the checkpoint's files, or <see langword="null"/> for a start.</summary>
    public string? Checkpoint { get; init; }

    /// <summary>The saved machine's channel; with <see cref="Checkpoint"/>.</summary>
    public GuestMemo? Memo { get; init; }

    /// <summary>Executions that were to go on.</summary>
    public IReadOnlyList<RestoredExecution> Executions { get; init; } = [];
}
