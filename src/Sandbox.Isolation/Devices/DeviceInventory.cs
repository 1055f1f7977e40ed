using System.Globalization;

namespace Sandbox.Isolation.Devices;

/// <summary>The PCI devices of a host. What cannot be understood is left out: a device whose vendor, number or class does not read as a number is none that could be handed out.</summary>
public sealed class DeviceInventory
{
    private const string Pci = "bus/pci/devices";

    private readonly Dictionary<PciAddress, HostDevice> _devices;

    private DeviceInventory(Dictionary<PciAddress, HostDevice> devices) => _devices = devices;

    /// <summary>All of them, in the order of their addresses.</summary>
    public IReadOnlyList<HostDevice> Devices => [.. _devices.Values.OrderBy(d => d.Address)];

    /// <summary>Those that may be handed out: accelerators.</summary>
    public IReadOnlyList<HostDevice> Accelerators => [.. Devices.Where(d => d.Kind is DeviceKind.Gpu or DeviceKind.Npu)];

    /// <summary>The device at an address, or <see langword="null"/>.</summary>
    public HostDevice? Find(PciAddress address) => _devices.GetValueOrDefault(address);

    /// <summary>Looks at a host. Never throws: a host without PCI has no devices.</summary>
    public static DeviceInventory Read(SysfsTree sysfs)
    {
        ArgumentNullException.ThrowIfNull(sysfs);
        var devices = new Dictionary<PciAddress, HostDevice>();
        foreach (var name in sysfs.List(Pci))
        {
            if (PciAddress.TryParse(name) is { } address && ReadDevice(sysfs, name, address) is { } device)
            {
                devices[address] = device;
            }
        }

        return new DeviceInventory(devices);
    }

    private static HostDevice? ReadDevice(SysfsTree sysfs, string name, PciAddress address)
    {
        if (Hex(sysfs.ReadLine(Pci, name, "vendor"), 0xffff) is not { } vendor || Hex(sysfs.ReadLine(Pci, name, "device"), 0xffff) is not { } device
            || Hex(sysfs.ReadLine(Pci, name, "class"), 0xffffff) is not { } type)
        {
            return null;
        }

        var group = Whole(sysfs.LinkName(Pci, name, "iommu_group"));
        return new HostDevice
        {
            Address = address,
            Vendor = (ushort)vendor,
            Device = (ushort)device,
            Class = type,
            Driver = sysfs.LinkName(Pci, name, "driver"),
            IommuGroup = group,
            IommuMembers = group is { } number ? Members(sysfs, number, address) : [],
            PhysicalFunction = PciAddress.TryParse(sysfs.LinkName(Pci, name, "physfn")),
            VirtualFunctions = VirtualFunctions(sysfs, name),
            MaxVirtualFunctions = Whole(sysfs.ReadLine(Pci, name, "sriov_totalvfs")) ?? 0,
            MdevTypes = [.. sysfs.List(Pci, name, "mdev_supported_types").Select(t => ReadMdev(sysfs, name, t)).OfType<MdevType>()],
            ResetMethods = ResetMethods(sysfs, name),
            IsBootDisplay = Whole(sysfs.ReadLine(Pci, name, "boot_vga")) == 1,
            NumaNode = Whole(sysfs.ReadLine(Pci, name, "numa_node")),
        };
    }

    private static PciAddress[] Members(SysfsTree sysfs, int group, PciAddress self)
    {
        var members = sysfs.List("kernel/iommu_groups", group.ToString(CultureInfo.InvariantCulture), "devices").Select(PciAddress.TryParse).OfType<PciAddress>();
        return [.. members.Append(self).Distinct().Order()];
    }

    private static PciAddress[] VirtualFunctions(SysfsTree sysfs, string name) =>
        [.. sysfs.List(Pci, name).Where(n => n.StartsWith("virtfn", StringComparison.Ordinal)).Select(n => PciAddress.TryParse(sysfs.LinkName(Pci, name, n))).OfType<PciAddress>().Order()];

    /// <summary>Kernels before 5.15 have no list, only the file that resets.</summary>
    private static string[] ResetMethods(SysfsTree sysfs, string name) =>
        !sysfs.Exists(Pci, name, "reset") ? []
        : sysfs.Exists(Pci, name, "reset_method") ? (sysfs.ReadLine(Pci, name, "reset_method") ?? "").Split(' ', StringSplitOptions.RemoveEmptyEntries)
        : ["default"];

    private static MdevType? ReadMdev(SysfsTree sysfs, string name, string type)
    {
        string Line(string file) => sysfs.ReadLine(Pci, name, "mdev_supported_types", type, file) ?? "";
        return Whole(Line("available_instances")) is { } available ? new MdevType(type, Line("name"), Line("device_api"), available) : null;
    }

    private static uint? Hex(string? text, uint most) =>
        text is not null && text.StartsWith("0x", StringComparison.Ordinal) && uint.TryParse(text.AsSpan(2), NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out var value) && value <= most ? value : null;

    /// <summary>A number that is not negative: the kernel says -1 for none.</summary>
    private static int? Whole(string? text) => int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out var value) ? value : null;
}
