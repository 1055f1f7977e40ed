using Sandbox.Isolation.Hosting;

namespace Sandbox.Isolation.Qemu.Machine;

/// <summary>The directory of one live QEMU machine.</summary>
internal sealed class QemuDirectory : VmDirectory
{
    public QemuDirectory(string hostRoot, string vmId)
        : base(hostRoot, vmId) => RequireSocketPath(Agent, hostRoot);

    public string Qmp => Path.Combine(DirectoryPath, "qmp");

    public string Agent => Path.Combine(DirectoryPath, "agent");

    /// <summary>Where the state of devices goes in or out.</summary>
    public string Migration => Path.Combine(DirectoryPath, "state");
}
