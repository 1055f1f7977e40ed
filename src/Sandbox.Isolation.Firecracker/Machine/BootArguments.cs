using System.Globalization;

namespace Sandbox.Isolation.Firecracker.Machine;

/// <summary>The kernel command line. Firecracker adds <c>root=</c> and its devices itself; the init of the image goes by the words that begin with <c>sandbox.</c>.</summary>
internal static class BootArguments
{
    /// <summary>Port of the agent in the guest. Below 1024, so that no unprivileged process there can take it while the agent is not listening.</summary>
    public const uint AgentPort = 1000;

    /// <summary>Address of the guest on its socket device. 0 to 2 are taken; every machine has a device of its own, so all may have the same.</summary>
    public const long GuestCid = 3;

    /// <summary>
    /// No keyboard controller to ask for a reboot, so a panic must end the machine by itself (<c>reboot=k panic=-1</c>: at once). There is no PCI bus to look for. Drives have no serial number of ours: the first is
    /// the root, the second the session's disk, in the order in which they are told to Firecracker.
    /// </summary>
    public static string Line { get; } = string.Create(
        CultureInfo.InvariantCulture,
        $"console=ttyS0 reboot=k panic=-1 pci=off loglevel=4 random.trust_cpu=off i8042.noaux i8042.nomux i8042.dumbkbd sandbox.root=vda sandbox.data=vdb sandbox.vsock={AgentPort}");
}
