namespace Sandbox.Isolation.Oci.Bundles;

/// <summary>What one container is, apart from what all have in common.</summary>
internal sealed record ContainerSpec
{
    /// <summary>Where its root is mounted.</summary>
    public required string Root { get; init; }

    public required string Hostname { get; init; }

    /// <summary>Path of its cgroup below the controllers.</summary>
    public required string CgroupPath { get; init; }

    /// <summary>The host's user and group id that is its root.</summary>
    public required uint FirstUserId { get; init; }

    /// <summary>Most memory, in bytes.</summary>
    public required long MemoryBytes { get; init; }

    /// <summary>CPU time in cores.</summary>
    public required double CpuCores { get; init; }

    /// <summary>Processors that its programs are to see.</summary>
    public required int Vcpus { get; init; }

    /// <summary>Numbers of the processors it may run on, as the kernel's lists have them; empty: all.</summary>
    public string Processors { get; init; } = "";

    /// <summary>Most processes and threads.</summary>
    public required int Pids { get; init; }

    /// <summary>gVisor's kernel and not the host's.</summary>
    public required bool Gvisor { get; init; }

    /// <summary>The host can limit memory and swap together.</summary>
    public bool SwapLimit { get; init; }

    /// <summary>Full names of the devices it gets (CDI).</summary>
    public IReadOnlyList<string> Devices { get; init; } = [];

    /// <summary>The host can weigh the use of disks.</summary>
    public bool IoWeight { get; init; }
}
