using System.Globalization;

namespace Sandbox.Isolation.Devices;

/// <summary>What a session asks for.</summary>
/// <param name="Kind"><see cref="DeviceKind.Gpu"/>, <see cref="DeviceKind.Npu"/>, or <see cref="DeviceKind.Other"/> for either.</param>
/// <param name="Count">How many, 1 or more, on one host.</param>
/// <param name="Vendor">Who must have made them, or <see langword="null"/>.</param>
/// <param name="Device">Their maker's number, or <see langword="null"/>.</param>
public sealed record DeviceRequest(DeviceKind Kind, int Count = 1, ushort? Vendor = null, ushort? Device = null)
{
    /// <summary>Reads what users write: <c>gpu</c>, <c>npu</c>, a PCI vendor (<c>10de</c>), or vendor and device (<c>10de:2684</c>), in lower-case hexadecimal of four digits. Else <see langword="null"/>.</summary>
    public static DeviceRequest? TryParse(string? kind, int count = 1) => kind switch
    {
        "gpu" => new(DeviceKind.Gpu, count),
        "npu" => new(DeviceKind.Npu, count),
        { Length: 4 } when Hex(kind) is { } vendor => new(DeviceKind.Other, count, vendor),
        { Length: 9 } when kind[4] == ':' && Hex(kind[..4]) is { } vendor && Hex(kind[5..]) is { } device => new(DeviceKind.Other, count, vendor, device),
        _ => null,
    };

    /// <summary>Whether a device is one of those.</summary>
    public bool Fits(OfferedDevice device)
    {
        ArgumentNullException.ThrowIfNull(device);
        return (Kind == DeviceKind.Other || device.Kind == Kind) && (Vendor ?? device.Vendor) == device.Vendor && (Device ?? device.Device) == device.Device;
    }

    private static ushort? Hex(string text) => text.All(char.IsAsciiHexDigitLower) ? ushort.Parse(text, NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture) : null;
}

/// <summary>A device of a host as the scheduler knows it.</summary>
/// <param name="Address">Where it is.</param>
/// <param name="Kind">What it is for.</param>
/// <param name="Vendor">Who made it.</param>
/// <param name="Device">Its maker's number.</param>
/// <param name="State">Whether it is free.</param>
/// <param name="IommuGroup">What goes to one machine with it; <see langword="null"/>: it cannot be handed out.</param>
public sealed record OfferedDevice(PciAddress Address, DeviceKind Kind, ushort Vendor, ushort Device, DeviceState State, int? IommuGroup);

/// <summary>What a host offers.</summary>
public sealed record DeviceOffer(string HostId, IReadOnlyList<OfferedDevice> Devices)
{
    /// <summary>Why devices without a group cannot be handed out, for people.</summary>
    public string Unusable { get; init; } = "no IOMMU group, no reset, or divided into virtual functions";

    /// <summary>An offer from a host's inventory and its leases. Devices that are entangled with one that is not free are not free either.</summary>
    public static DeviceOffer Of(string hostId, DeviceInventory inventory, IReadOnlyList<DeviceLease> leases)
    {
        ArgumentNullException.ThrowIfNull(inventory);
        return Of(hostId, inventory.Accelerators, leases, []);
    }

    /// <summary>An offer of some devices of a host.</summary>
    /// <param name="hostId">The host.</param>
    /// <param name="devices">What it offers.</param>
    /// <param name="leases">Its leases.</param>
    /// <param name="unreadable">Devices whose lease cannot be read: they count as taken (see <see cref="DeviceLeases.Unreadable"/>).</param>
    public static DeviceOffer Of(string hostId, IEnumerable<HostDevice> devices, IReadOnlyList<DeviceLease> leases, IReadOnlyCollection<PciAddress> unreadable)
    {
        ArgumentNullException.ThrowIfNull(devices);
        ArgumentNullException.ThrowIfNull(leases);
        ArgumentNullException.ThrowIfNull(unreadable);
        var held = leases.Where(l => l.State != DeviceState.Free).ToList();
        return new DeviceOffer(hostId, [.. devices.Select(d => new OfferedDevice(d.Address, d.Kind, d.Vendor, d.Device, StateOf(d, held, unreadable), d.CanBeHandedOut ? d.IommuGroup : null))]);
    }

    private static DeviceState StateOf(HostDevice device, List<DeviceLease> held, IReadOnlyCollection<PciAddress> unreadable) =>
        device.Entangled.Overlaps(unreadable) ? DeviceState.Dirty : held.Where(l => l.Excludes(device)).Select(l => l.State).FirstOrDefault();
}
