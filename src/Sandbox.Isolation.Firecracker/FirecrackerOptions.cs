namespace Sandbox.Isolation.Firecracker;

/// <summary>How this host runs Firecracker.</summary>
public sealed record FirecrackerOptions
{
    /// <summary>This host; names the runtime directory and the cgroups. <c>[a-z0-9-]{1,37}</c>.</summary>
    public required string HostId { get; init; }

    /// <summary>Program to run. Under the jailer it must be linked statically, as released binaries are: it is copied into an otherwise empty root.</summary>
    public string Binary { get; init; } = Find("firecracker");

    /// <summary>The jailer, of the same version.</summary>
    public string Jailer { get; init; } = Find("jailer");

    /// <summary>
    /// Run Firecracker without its jailer although this process is root. For tests: it then runs as root too. A process that is not root never uses the jailer, because it could not.
    /// </summary>
    public bool AllowUnjailed { get; init; }

    /// <summary>The device that tells whether there is a KVM at all.</summary>
    public string KvmDevice { get; init; } = "/dev/kvm";

    /// <summary>Where the records and sockets of live microVMs are. Short: socket paths below it must fit 107 bytes.</summary>
    public string RuntimeRoot { get; init; } = "/run/sandbox";

    /// <summary>
    /// Where blank disks, unpacked kernels, jails and memory files are. Not on a file system mounted <c>nodev</c> or <c>noexec</c>: a jail has its own /dev/kvm and its own copy of the program.
    /// </summary>
    public required string CacheDirectory { get; init; }

    /// <summary>Where the verdict on KVM is kept; it holds for the whole machine. <see langword="null"/>: in <see cref="CacheDirectory"/>.</summary>
    public string? VerdictDirectory { get; init; }

    /// <summary>An image to probe KVM with, or <see langword="null"/> where there is none yet.</summary>
    public Func<string?> ProbeImage { get; init; } = () => null;

    /// <summary>How the memory of a clone or a restored machine comes into its process.</summary>
    public LoadedMemory LoadedMemory { get; init; } = LoadedMemory.File;

    /// <summary>Limits of the read-only root drive, each microVM; <see langword="null"/> for none.</summary>
    public DriveLimits? RootDriveLimits { get; init; } = new();

    /// <summary>Limits of the session's disk, each microVM; <see langword="null"/> for none.</summary>
    public DriveLimits? DataDriveLimits { get; init; } = new();

    /// <summary>How long one boot may take. On hardware it takes under a second.</summary>
    public TimeSpan BootDeadline { get; init; } = TimeSpan.FromSeconds(30);

    /// <summary>How long a clone of a golden snapshot may take; a machine that does not answer by then is booted instead.</summary>
    public TimeSpan CloneDeadline { get; init; } = TimeSpan.FromSeconds(15);

    /// <summary>How long loading a saved machine may take once its files are written. Then the restore fails.</summary>
    public TimeSpan RestoreDeadline { get; init; } = TimeSpan.FromMinutes(1);

    /// <summary>How long the probe lets a guest try to boot.</summary>
    public TimeSpan KvmProbeDeadline { get; init; } = TimeSpan.FromSeconds(10);

    /// <summary>How long one connection to the agent may wait inside Firecracker. It gives up by itself after two seconds.</summary>
    public TimeSpan VsockDeadline { get; init; } = TimeSpan.FromSeconds(3);

    /// <summary>
    /// First of the user ids that microVMs run as, each its own. The same as the QEMU backend's: both take from one set of locked slots below <see cref="RuntimeRoot"/>, so that no id is used twice.
    /// </summary>
    public uint FirstUserId { get; init; } = 310_000;

    /// <summary>Memory that Firecracker itself may use beyond the guest's: its own, and the page cache of what it reads and writes. In MiB.</summary>
    public int OverheadMiB { get; init; } = 128;

    /// <summary>Where a program usually is; the first place if it is in none, so that errors can name one.</summary>
    private static string Find(string program)
    {
        string[] places = ["/usr/bin/" + program, "/usr/local/bin/" + program];
        return places.FirstOrDefault(File.Exists) ?? places[0];
    }
}

/// <summary>How the memory of a machine that is loaded comes into its process.</summary>
public enum LoadedMemory
{
    /// <summary>Firecracker maps the file privately: machines share its page cache until they write.</summary>
    File = 0,

    /// <summary>This process serves each page when it is first touched (userfaultfd): nothing of the file has to be in the page cache, and each machine has a copy of its own.</summary>
    Userfault = 1,
}

/// <summary>
/// Limits of a drive. Each is a bucket that fills anew within a second, so that a second's worth may be used at once.
/// </summary>
/// <param name="BytesPerSecond">Bytes read and written in a second; <see langword="null"/> for no limit. The default lets one machine not take all of an NVMe disk.</param>
/// <param name="OperationsPerSecond">Requests in a second; <see langword="null"/> for no limit.</param>
/// <param name="BurstBytes">Bytes that may be used once beyond that, for the boot.</param>
public sealed record DriveLimits(long? BytesPerSecond = 512L << 20, long? OperationsPerSecond = 20_000, long? BurstBytes = 1L << 30);
