namespace Sandbox.Isolation.Firecracker.Machine;

/// <summary>
/// Names in a machine's root, which is its process's working directory and, in a jail, its whole world. Firecracker is told these and no paths: they stand in its snapshots, and must mean the same in the
/// directory of another machine.
/// </summary>
internal static class MachineFiles
{
    public const string Api = "api";
    public const string Vsock = "v";
    public const string Kernel = "kernel";
    public const string Initramfs = "initramfs";
    public const string Root = "root.erofs";
    public const string Disk = "disk";

    /// <summary>What a machine is loaded from.</summary>
    public const string Memory = "memory";
    public const string State = "state";

    /// <summary>Where pages of a machine are asked for that are not mapped from a file.</summary>
    public const string Pager = "pager";

    /// <summary>What a machine is saved to.</summary>
    public const string SavedMemory = "saved-memory";
    public const string SavedState = "saved-state";
}

/// <summary>A file of the host that is placed in a machine's root.</summary>
/// <param name="Source">The file.</param>
/// <param name="Name">What it is called there.</param>
/// <param name="Writable">The machine writes to it.</param>
internal sealed record PlacedFile(string Source, string Name, bool Writable = false);
