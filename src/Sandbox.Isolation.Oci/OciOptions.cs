using Sandbox.Isolation.Network;

namespace Sandbox.Isolation.Oci;

/// <summary>How this host runs containers.</summary>
public sealed record OciOptions
{
    /// <summary>This host; names the runtime directory and the cgroups, with the backend's name behind it. <c>[a-z0-9-]{1,40}</c>.</summary>
    public required string HostId { get; init; }

    /// <summary>Where the directories of live containers are. Every user must be able to pass through it.</summary>
    public string RuntimeRoot { get; init; } = "/run/sandbox";

    /// <summary>Where blank disks and the mounted roots of images are kept between runs.</summary>
    public required string CacheDirectory { get; init; }

    /// <summary>An image to probe with, or <see langword="null"/> where there is none yet.</summary>
    public Func<string?> ProbeImage { get; init; } = () => null;

    /// <summary>Programs to try, in order, instead of those of the tier (runc and crun; or runsc): file names or paths.</summary>
    public IReadOnlyList<string>? Runtimes { get; init; }

    /// <summary>Where descriptions of devices for containers are (CDI), the more important directory last.</summary>
    public IReadOnlyList<string> CdiDirectories { get; init; } = Devices.Cdi.CdiRegistry.DefaultDirectories;

    /// <summary>How the networks of containers on the host's kernel are made, where this host can make them; <see langword="null"/>: they have none. gVisor's never have one.</summary>
    public GuestNetworkOptions? Network { get; init; } = new();

    /// <summary>How long one start may take, from its first mount to an agent that answers.</summary>
    public TimeSpan StartDeadline { get; init; } = TimeSpan.FromSeconds(30);

    /// <summary>How long restoring a saved machine may take, reading it from its store included. Then it fails.</summary>
    public TimeSpan RestoreDeadline { get; init; } = TimeSpan.FromMinutes(5);

    /// <summary>How long the probe's container may take. A good one needs a second; a platform that does not work here may hang for ever.</summary>
    public TimeSpan ProbeDeadline { get; init; } = TimeSpan.FromSeconds(20);

    /// <summary>First of the user ids that containers are mapped to, 65536 for each; 4096 such ranges follow each other. Nobody else may use them.</summary>
    public uint FirstUserId { get; init; } = 0x2000_0000;
}
