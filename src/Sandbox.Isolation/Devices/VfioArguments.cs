using System.Globalization;

namespace Sandbox.Isolation.Devices;

/// <summary>QEMU's arguments for devices that are handed to a machine. docs/devices.md says what the machine must be like.</summary>
public static class VfioArguments
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
}
