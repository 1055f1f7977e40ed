using System.Globalization;

namespace Sandbox.Isolation.Devices;

/// <summary>What a session asks for.</summary>
/// <param name="Kind"><see cref="DeviceKind.Gpu"/> or <see cref="DeviceKind.Npu"/>.</param>
/// <param name="Count">How many, 1 or more, on one host.</param>
/// <param name="Vendor">Who must have made them, or <see langword="null"/>.</param>
/// <param name="Device">Their maker's number, or <see langword="null"/>.</param>
public sealed record DeviceRequest(DeviceKind Kind, int Count = 1, ushort? Vendor = null, ushort? Device = null);

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
    /// <summary>An offer from a host's inventory and its leases. Devices that are entangled with one that is not free are not free either.</summary>
    public static DeviceOffer Of(string hostId, DeviceInventory inventory, IReadOnlyList<DeviceLease> leases)
    {
        ArgumentNullException.ThrowIfNull(inventory);
        ArgumentNullException.ThrowIfNull(leases);
        var held = leases.Where(l => l.State != DeviceState.Free).ToList();
        return new DeviceOffer(
            hostId,
            [
                .. inventory.Accelerators.Select(d => new OfferedDevice(
                    d.Address, d.Kind, d.Vendor, d.Device, held.Where(l => l.Excludes(d)).Select(l => l.State).FirstOrDefault(), d.ResetMethods.Count > 0 ? d.IommuGroup : null)),
            ]);
    }
}

/// <summary>Chooses a host for a session that wants devices, or says of every host that was looked at why it is not.</summary>
public static class DeviceAdmission
{
    /// <summary>Chooses. Of several hosts the one with the fewest free devices of that kind, so that larger requests still find a host.</summary>
    /// <param name="request">What is asked for.</param>
    /// <param name="hosts">Hosts that would do otherwise.</param>
    /// <param name="refusal">Where none has them: for users.</param>
    /// <returns>The host and the devices, or <see langword="null"/>.</returns>
    public static (string HostId, IReadOnlyList<PciAddress> Devices)? Choose(DeviceRequest request, IReadOnlyList<DeviceOffer> hosts, out string refusal)
    {
        ArgumentNullException.ThrowIfNull(request);
        ArgumentNullException.ThrowIfNull(hosts);
        var looked = hosts.Select(h => (Host: h, Found: Look(request, h))).ToList();
        var best = looked.Where(l => l.Found.Free.Count >= request.Count).OrderBy(l => l.Found.Free.Count).ThenBy(l => l.Host.HostId, StringComparer.Ordinal).FirstOrDefault();
        if (best.Host is not null)
        {
            refusal = "";
            return (best.Host.HostId, [.. best.Found.Free.Take(request.Count)]);
        }

        refusal = $"No {Describe(request)} is free. " + (hosts.Count == 0 ? "No host was there to look at." : "Looked at: " + string.Join("; ", looked.Select(l => $"{l.Host.HostId} ({l.Found.Why})")) + ".");
        return null;
    }

    private static (IReadOnlyList<PciAddress> Free, string Why) Look(DeviceRequest request, DeviceOffer host)
    {
        var fitting = host.Devices.Where(d => d.Kind == request.Kind && (request.Vendor ?? d.Vendor) == d.Vendor && (request.Device ?? d.Device) == d.Device).ToList();
        var usable = fitting.Where(d => d.IommuGroup is not null).ToList();

        // What is in one group goes to one machine: it counts once.
        var free = usable.Where(d => d.State == DeviceState.Free).DistinctBy(d => d.IommuGroup).Select(d => d.Address).ToList();
        var why = fitting.Count == 0 ? "has none"
            : usable.Count == 0 ? $"has {fitting.Count}, none of which can be handed out: no IOMMU group, or no reset"
            : string.Create(CultureInfo.InvariantCulture, $"has {fitting.Count}: {free.Count} free, {usable.Count(d => d.State == DeviceState.Leased)} leased, {usable.Count(d => d.State is DeviceState.Dirty or DeviceState.Resetting)} to be reset");
        return (free, why);
    }

    private static string Describe(DeviceRequest request) =>
        (request.Count > 1 ? string.Create(CultureInfo.InvariantCulture, $"set of {request.Count} ") : "") + (request.Kind == DeviceKind.Npu ? "NPU" : "GPU")
        + (request.Vendor is { } vendor ? string.Create(CultureInfo.InvariantCulture, $" of vendor 0x{vendor:x4}") : "") + (request.Device is { } device ? string.Create(CultureInfo.InvariantCulture, $", device 0x{device:x4}") : "");
}
