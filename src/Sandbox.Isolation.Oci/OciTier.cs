namespace Sandbox.Isolation.Oci;

/// <summary>The two kinds of containers that this project offers, each as a backend of its own.</summary>
public enum OciTier
{
    /// <summary>Containers on the host's kernel, by runc or crun. Backend <c>oci</c>.</summary>
    HostKernel = 0,

    /// <summary>Containers on gVisor's kernel in user space, by runsc. Backend <c>gvisor</c>.</summary>
    Gvisor = 1,
}
