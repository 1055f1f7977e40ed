using Sandbox.Isolation.Devices.Cdi;

namespace Sandbox.Grains;

/// <summary>Which devices a host offers to sessions, and where it writes down who has them. See docs/devices.md. Never verified on hardware.</summary>
public sealed record DeviceOptions
{
    /// <summary>Whether it offers any. A server that is not root offers none of the real ones: binding and resetting take root.</summary>
    public bool Enabled { get; init; } = true;

    /// <summary>PCI addresses (<c>0000:3b:00.0</c>) of what it offers. Empty: all display controllers and processing accelerators, but the one that shows the host's console.</summary>
    public IReadOnlyList<string> Addresses { get; init; } = [];

    /// <summary>Where the kernel's view of devices is. Another one than <see cref="SystemSysfs"/> is for tests.</summary>
    public string SysfsRoot { get; init; } = SystemSysfs;

    /// <summary>Where device nodes are.</summary>
    public string DevRoot { get; init; } = "/dev";

    /// <summary>Where leases are: one directory for a machine, however many servers it has, on a disk.</summary>
    public string LeaseDirectory { get; init; } = DefaultLeaseDirectory;

    /// <summary>Where descriptions of the Container Device Interface are, the more important directory last.</summary>
    public IReadOnlyList<string> CdiDirectories { get; init; } = CdiRegistry.DefaultDirectories;

    /// <summary>The real one.</summary>
    public const string SystemSysfs = "/sys";

    /// <summary>Beside the data directories of all servers of the machine.</summary>
    public const string DefaultLeaseDirectory = "/var/lib/sandbox-devices";
}
