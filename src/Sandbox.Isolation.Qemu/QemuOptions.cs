using Sandbox.Isolation.Network;

namespace Sandbox.Isolation.Qemu;

/// <summary>How this host runs QEMU.</summary>
public sealed record QemuOptions
{
    /// <summary>This host; names the runtime directory and the cgroups. <c>[a-z0-9-]{1,40}</c>.</summary>
    public required string HostId { get; init; }

    /// <summary>Program to run.</summary>
    public string Binary { get; init; } = "/usr/bin/qemu-system-x86_64";

    /// <summary>Where the directories of live microVMs are. Short: socket paths below it must fit 107 bytes.</summary>
    public string RuntimeRoot { get; init; } = "/run/sandbox";

    /// <summary>Where blank disks are kept between runs.</summary>
    public required string CacheDirectory { get; init; }

    /// <summary>Where the KVM verdict and the rate of the machine's clock are kept; they hold for the whole machine. <see langword="null"/>: in <see cref="CacheDirectory"/>.</summary>
    public string? VerdictDirectory { get; init; }

    /// <summary>An image to probe KVM with, or <see langword="null"/> where there is none yet.</summary>
    public Func<string?> ProbeImage { get; init; } = () => null;

    /// <summary><c>auto</c>, <c>kvm</c> or <c>tcg</c>.</summary>
    public string Accelerator { get; init; } = "auto";

    /// <summary>How long one boot may take; it is tried twice. Emulation on a loaded two-core machine needs tens of seconds at times.</summary>
    public TimeSpan BootDeadline { get; init; } = TimeSpan.FromSeconds(60);

    /// <summary>How long a clone of a golden snapshot may take; a machine that does not answer by then is booted instead.</summary>
    public TimeSpan CloneDeadline { get; init; } = TimeSpan.FromSeconds(30);

    /// <summary>How long restoring a saved machine may take, reading it from its store included. Then it fails.</summary>
    public TimeSpan RestoreDeadline { get; init; } = TimeSpan.FromMinutes(5);

    /// <summary>How long the probe lets a guest try to boot under KVM. A good one takes under a second.</summary>
    public TimeSpan KvmProbeDeadline { get; init; } = TimeSpan.FromSeconds(10);

    /// <summary>How the machines' networks are made, where this host can make them; <see langword="null"/>: machines have none.</summary>
    public GuestNetworkOptions? Network { get; init; } = new();

    /// <summary>First of the user ids that microVMs run as, each its own. Nobody else may use the range.</summary>
    public uint FirstUserId { get; init; } = 310_000;

    /// <summary>Memory that QEMU itself may use beyond the guest's: translated code, buffers, page cache of the images. In MiB.</summary>
    public int OverheadMiB { get; init; } = 256;
}
