using Sandbox.Isolation.Devices;

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

    /// <summary>Devices of the host that it gets, acquired and made ready for it by the caller. Only for a backend with <see cref="BackendCapabilities.Devices"/>; such a machine is never cloned, and not restored with a memory.</summary>
    public IReadOnlyList<MicroVmDevice> Devices { get; init; } = [];

    /// <summary>The saved machine to bring back, or <see langword="null"/> for a new one. A restore never falls back to a boot: it succeeds whole or fails.</summary>
    public MachineRestore? Restore { get; init; }
}

/// <summary>A device of the host for a machine.</summary>
/// <param name="Address">Where it is; with <see cref="DeviceHandover.Vfio"/> it is bound to vfio-pci.</param>
/// <param name="IommuGroup">Its group, whose file in <c>/dev/vfio</c> a monitor opens.</param>
/// <param name="CdiName">Its full name in the Container Device Interface (<c>vendor.com/gpu=0</c>), with <see cref="DeviceHandover.Cdi"/>.</param>
public sealed record MicroVmDevice(PciAddress Address, int IommuGroup, string? CdiName = null);

/// <summary>A saved machine that is brought back.</summary>
/// <param name="Source">Its bytes, verified by whoever reads them.</param>
/// <param name="Executions">Executions that ran in it and shall go on, in the order in which <see cref="IMicroVm.Survivors"/> answers. What else runs in the guest is killed.</param>
/// <param name="StateName">
/// What the saved state is called (see <see cref="IMachineSink.StateName"/>): machines that are restored from one state on one host can share its memory. Never used for another state. <see langword="null"/>: shared with nobody.
/// </param>
/// <param name="Siblings">How many machines are likely to be restored from the state on this host, this one with them.</param>
public sealed record MachineRestore(IMachineSource Source, IReadOnlyList<RestoredExecution> Executions, string? StateName = null, int Siblings = 1);

/// <summary>An execution that goes on in a restored machine.</summary>
/// <param name="ExecutionId">Its id inside the guest.</param>
/// <param name="LastSeq">The guest's number of the last event that is in its log; the guest repeats what came after.</param>
public sealed record RestoredExecution(string ExecutionId, ulong LastSeq);
