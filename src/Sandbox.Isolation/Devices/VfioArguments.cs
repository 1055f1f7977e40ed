using System.Globalization;
using System.Runtime.InteropServices;

namespace Sandbox.Isolation.Devices;

/// <summary>QEMU's arguments for devices that are handed to a machine, and the files it opens for them. docs/devices.md says what the machine must be like.</summary>
public static partial class VfioArguments
{
    /// <summary>
    /// What <c>-machine microvm</c> needs besides: without it the machine has no PCI bus at all. Part of the machine's arguments, and so of a golden snapshot's fingerprint: machines with devices have their own, or none.
    /// </summary>
    public const string MicrovmOption = "pcie=on";

    /// <summary>Arguments for the devices, each behind a root port of its own, so that the guest's kernel sees them as PCI Express.</summary>
    /// <param name="devices">Devices that are bound to vfio-pci, without bridges.</param>
    public static IReadOnlyList<string> ForQemu(IEnumerable<PciAddress> devices)
    {
        ArgumentNullException.ThrowIfNull(devices);
        List<string> arguments = [];
        var index = 0;
        foreach (var device in devices.Order())
        {
            index++;
            arguments.AddRange(
            [
                "-device", string.Create(CultureInfo.InvariantCulture, $"pcie-root-port,id=port{index},chassis={index}"),
                "-device", string.Create(CultureInfo.InvariantCulture, $"vfio-pci,id=device{index},bus=port{index},host={device},display=off"),
            ]);
        }

        return arguments;
    }

    /// <summary>Arguments for a mediated device.</summary>
    public static IReadOnlyList<string> ForMediated(Guid device) => ["-device", $"vfio-pci,id=mdev,sysfsdev=/sys/bus/mdev/devices/{device:D},display=off"];

    /// <summary>The file in <c>/dev/vfio</c> that the monitor opens for a device, and that must be its user's.</summary>
    public static string GroupFile(int iommuGroup) => string.Create(CultureInfo.InvariantCulture, $"/dev/vfio/{iommuGroup}");

    /// <summary>Makes a group's file a user's, and nobody else's.</summary>
    /// <exception cref="DeviceException">It is not there, or cannot be given away.</exception>
    public static void Give(int iommuGroup, uint user)
    {
        var path = GroupFile(iommuGroup);
        if (!File.Exists(path))
        {
            throw new DeviceException($"There is no {path}: the devices of IOMMU group {iommuGroup} are not all with vfio-pci.");
        }

        if (ChangeOwner(path, user, user) != 0 || ChangeMode(path, 0x180) != 0)
        {
            throw new DeviceException($"{path} cannot be given to user {user}: {Marshal.GetLastPInvokeErrorMessage()}");
        }
    }

    /// <summary>Makes a group's file root's again. One that is not there, or another's business, is no error: it goes with its device's driver.</summary>
    /// <param name="devRoot">Where the kernel shows device nodes: <c>/dev</c>.</param>
    /// <param name="iommuGroup">The group's number as the kernel writes it, or <see langword="null"/>.</param>
    public static void TakeBack(string devRoot, string? iommuGroup)
    {
        if (iommuGroup is { Length: > 0 } && Environment.IsPrivilegedProcess)
        {
            _ = ChangeOwner(Path.Combine(devRoot, "vfio", iommuGroup), 0, 0);
        }
    }

    [LibraryImport("libc", EntryPoint = "chown", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int ChangeOwner(string path, uint user, uint group);

    [LibraryImport("libc", EntryPoint = "chmod", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int ChangeMode(string path, uint mode);
}
