using Sandbox.Grains;
using Sandbox.Isolation.Devices;
using Sandbox.Isolation.Devices.Cdi;

namespace Sandbox.Cli.Doctor;

/// <summary>The devices that a server would offer to sessions here. Looks only: trying one would take it from whoever uses it.</summary>
internal static class DeviceFindings
{
    private const string Area = "devices";

    public static IReadOnlyList<Finding> Look(DeviceOptions options)
    {
        if (!options.Enabled)
        {
            return [new Finding(Area, "GPUs", Verdict.Fact, "offered to no session: the setting devices is off")];
        }

        var sysfs = new SysfsTree(options.SysfsRoot);
        var inventory = DeviceInventory.Read(sysfs);
        if (inventory.Accelerators.Count == 0)
        {
            return [new Finding(Area, "GPUs", Verdict.Fact, "none on this machine; what is there for them was never verified on hardware")];
        }

        var registry = CdiRegistry.Read(options.CdiDirectories);
        var names = CdiNames.Of(sysfs, inventory.Accelerators, registry);
        var vfio = sysfs.Exists("bus/pci/drivers/vfio-pci/bind");
        List<Finding> findings = [.. inventory.Accelerators.Select(d => Of(d, options, vfio, names.GetValueOrDefault(d.Address)))];
        findings.AddRange(registry.Problems.Select(p => new Finding(Area, "CDI", Verdict.Warning, p)));
        findings.Add(new Finding(Area, "verdict", Verdict.Warning, "not verified on hardware: handing a device to a session was only ever tested on a device tree of files", "try it on a machine whose devices nobody needs"));
        return findings;
    }

    private static Finding Of(HostDevice device, DeviceOptions options, bool vfio, string? cdi)
    {
        var name = device.Address.ToString();
        var what = $"{device.Kind.ToString().ToUpperInvariant()} {device.Vendor:x4}:{device.Device:x4}, driver {device.Driver ?? "none"}";
        return options.Addresses.Count > 0 && !options.Addresses.Contains(name) ? new Finding(Area, name, Verdict.Fact, $"{what}; not among the devices to be offered")
            : options.Addresses.Count == 0 && device.IsBootDisplay ? new Finding(Area, name, Verdict.Fact, $"{what}; shows the host's console: offered only if the setting devices names it")
            : device.IommuGroup is null ? new Finding(Area, name, Verdict.Warning, $"{what}; in no IOMMU group, so it is given to nobody", "switch on the IOMMU in the firmware and the kernel (intel_iommu=on or amd_iommu=on)")
            : device.ResetMethods.Count == 0 ? new Finding(Area, name, Verdict.Warning, $"{what}; the kernel cannot reset it, so it is given to nobody")
            : device.VirtualFunctions.Count > 0 ? new Finding(Area, name, Verdict.Fact, $"{what}; divided into {device.VirtualFunctions.Count} virtual functions, which are offered in its place")
            : !vfio && cdi is null ? new Finding(Area, name, Verdict.Warning, $"{what}; neither machines nor containers can get it", "modprobe vfio-pci for machines; a CDI file (nvidia-ctk cdi generate --format=json) for containers")
            : new Finding(Area, name, Verdict.Good, $"{what}, IOMMU group {device.IommuGroup} of {device.IommuMembers.Count}; for {string.Join(" and ", new[] { vfio ? "qemu" : null, cdi is null ? null : $"oci ({cdi})" }.OfType<string>())}");
    }
}
