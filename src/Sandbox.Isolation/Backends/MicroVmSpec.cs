namespace Sandbox.Isolation.Backends;

/// <summary>All a backend needs to start one microVM. Checked by the caller; a backend checks again what could hurt the host.</summary>
public sealed record MicroVmSpec
{
    /// <summary>Owner; <see cref="MicroVmOwner.VmId"/> names the directory, cgroup and sockets: <c>[a-z0-9-]{1,40}</c>.</summary>
    public required MicroVmOwner Owner { get; init; }

    /// <summary>Directory of a built template image on this host (see <c>Sandbox.Templates</c>).</summary>
    public required string ImageDirectory { get; init; }

    /// <summary>Number of virtual CPUs, 1..32.</summary>
    public required int Vcpus { get; init; }

    /// <summary>Guest memory in MiB, 128..65536.</summary>
    public required int MemoryMiB { get; init; }

    /// <summary>Size of the writable disk in MiB, 64..1048576.</summary>
    public required int DiskMiB { get; init; }

    /// <summary>
    /// The writable disk's file. Made (sparse, formatted) if it does not exist; kept when the microVM ends, because it belongs to the session.
    /// </summary>
    public required string DiskPath { get; init; }

    /// <summary>Host CPU the machine may use, in cores (1.5 = one and a half). Defaults to the number of vCPUs.</summary>
    public double? CpuLimit { get; init; }

    /// <summary>Host name inside the guest.</summary>
    public required string Hostname { get; init; }

    /// <summary>The saved machine to bring back, or <see langword="null"/> for a new one. A restore never falls back to a boot: it succeeds whole or fails.</summary>
    public MachineRestore? Restore { get; init; }
}

/// <summary>A saved machine that is brought back.</summary>
/// <param name="Source">Its bytes, verified by whoever reads them.</param>
/// <param name="Executions">Executions that ran in it and shall go on, in the order in which <see cref="IMicroVm.Survivors"/> answers. What else runs in the guest is killed.</param>
/// <param name="ShareKey">
/// Names the saved state where several machines are restored from it on this host: they share one sealed copy of its memory. <see langword="null"/>: this one alone.
/// </param>
public sealed record MachineRestore(IMachineSource Source, IReadOnlyList<RestoredExecution> Executions, string? ShareKey = null);

/// <summary>An execution that goes on in a restored machine.</summary>
/// <param name="ExecutionId">Its id inside the guest.</param>
/// <param name="LastSeq">The guest's number of the last event that is in its log; the guest repeats what came after.</param>
public sealed record RestoredExecution(string ExecutionId, ulong LastSeq);
