namespace Sandbox.Isolation.Backends;

/// <summary>What a backend can do here. The scheduler matches a session's needs against it, and the conformance suite holds the backend to it: what is declared is tested, what is not is refused.</summary>
public sealed record BackendCapabilities
{
    /// <summary>What stands between the code and the host.</summary>
    public required TrustBoundary Boundary { get; init; }

    /// <summary>Saves and restores a running machine with its memory: <see cref="IMicroVm.SaveAsync"/> keeps processes, variables and open files.</summary>
    public bool MemorySnapshot { get; init; }

    /// <summary>
    /// Saves and restores at least the disk. Without <see cref="MemorySnapshot"/> a restored machine is started anew on the saved disk: its executions and contexts are gone, and
    /// <see cref="MachineFacts.MemoryBytes"/> of what was saved is 0.
    /// </summary>
    public bool DiskSnapshot { get; init; }

    /// <summary>Starts several machines from one saved machine.</summary>
    public bool Fork { get; init; }

    /// <summary>Makes golden snapshots: <see cref="IIsolationBackend.BuildGoldenAsync"/> and what belongs to it.</summary>
    public bool GoldenSnapshot { get; init; }

    /// <summary>Keeps machines ready beforehand: <see cref="IIsolationBackend.PrepareAsync"/> returns one, where it needs a golden snapshot once there is one.</summary>
    public bool WarmPool { get; init; }

    /// <summary>Runs any program of the image, with users, signals, terminals and ports. False: only code in contexts, and modules that the backend knows how to run.</summary>
    public bool Processes { get; init; } = true;

    /// <summary>Can give a machine a network interface.</summary>
    public bool Network { get; init; }

    /// <summary>How it hands a host's device (a GPU) to a machine, if it does. A machine with devices is booted anew, and <see cref="MemorySnapshot"/> does not hold for it.</summary>
    public DeviceHandover Handover { get; init; }

    /// <summary>Can hand a host's device (a GPU) to a machine.</summary>
    public bool Devices => Handover != DeviceHandover.None;

    /// <summary>Whether code that nobody trusts may run on it: whether something else than the host's own kernel takes the code's system calls.</summary>
    public bool TakesUntrusted => Boundary is TrustBoundary.VirtualMachine or TrustBoundary.UserSpaceKernel or TrustBoundary.WebAssembly;
}

/// <summary>What stands between a session's code and the host, from nothing to most.</summary>
public enum TrustBoundary
{
    /// <summary>Nothing: the backend runs no real code.</summary>
    None = 0,

    /// <summary>The host's kernel, which the code calls directly, confined by namespaces, cgroups and a system call filter. Not for untrusted code.</summary>
    HostKernel = 1,

    /// <summary>A WebAssembly runtime in a confined process of its own.</summary>
    WebAssembly = 2,

    /// <summary>A kernel in user space (gVisor) that takes the code's system calls, itself confined.</summary>
    UserSpaceKernel = 3,

    /// <summary>A hypervisor or an emulator with a kernel of its own inside.</summary>
    VirtualMachine = 4,
}

/// <summary>How a device of the host gets into a machine.</summary>
public enum DeviceHandover
{
    /// <summary>Not at all.</summary>
    None = 0,

    /// <summary>Taken from the host's driver and given whole to the machine, whose own kernel drives it (VFIO).</summary>
    Vfio = 1,

    /// <summary>Left with the host's driver, whose nodes and files a container gets (Container Device Interface).</summary>
    Cdi = 2,
}
