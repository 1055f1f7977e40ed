using Sandbox.Abstractions;
using Sandbox.Isolation.Devices;

namespace Sandbox.Grains.Scheduling;

/// <summary>Chooses among hosts that would do otherwise by the devices that they report. Pure functions, as <see cref="PlacementPolicy"/>.</summary>
internal static class DevicePlacement
{
    /// <summary>Chooses a host with the devices.</summary>
    /// <param name="request">The request, which wants devices.</param>
    /// <param name="fitting">Hosts that would do otherwise, each with every backend that would.</param>
    /// <param name="elsewhere">Another host has such devices, and cannot be used just now for another reason.</param>
    /// <exception cref="SandboxException">
    /// None has them free: <see cref="SandboxErrorCode.Unsupported"/> where no host could ever serve the request, else <see cref="SandboxErrorCode.ResourceExhausted"/>.
    /// </exception>
    public static Placement Choose(PlacementRequest request, IReadOnlyList<(HostReport Host, HostBackend Backend)> fitting, bool elsewhere)
    {
        var requests = RequestsOf(request.Needs);
        var offers = fitting.Select(f => (f.Host, f.Backend, Offer: OfferOf(f.Host, f.Backend.Name))).ToList();

        // The host that has the session's disk first, then the strongest boundary: devices are no reason for a weaker one.
        foreach (var group in offers.GroupBy(o => (Preferred: o.Host.HostId == request.PreferredHost, o.Backend.Boundary)).OrderByDescending(g => g.Key.Preferred).ThenByDescending(g => g.Key.Boundary))
        {
            if (DeviceAdmission.Choose(requests, [.. group.Select(o => o.Offer)], out _) is { } found)
            {
                var (host, backend, _) = group.First(o => o.Host.HostId == found.HostId && DeviceAdmission.Choose(requests, [o.Offer], out _) is not null);
                return new Placement(host.HostId, backend.Name, host.Templates[request.Template]) { Devices = [.. found.Devices.Select(d => d.ToString())] };
            }
        }

        // A host is named once, by the backend that could hand out most of what it has.
        var told = offers.GroupBy(o => o.Host.HostId, StringComparer.Ordinal).Select(g => g.MaxBy(o => o.Offer.Devices.Count(d => d.IommuGroup is not null)).Offer).ToList();
        DeviceAdmission.Choose(requests, told, out var refusal);
        var ever = elsewhere || offers.Exists(o => DeviceAdmission.CouldEver(requests, o.Offer));
        throw new SandboxException(ever ? SandboxErrorCode.ResourceExhausted : SandboxErrorCode.Unsupported, refusal);
    }

    /// <summary>Whether a host has what a request wants, free or not. True for one that wants no devices.</summary>
    public static bool CouldEver(PlacementRequest request, HostReport host) =>
        request.Needs.Devices.Count == 0
        || host.Backends.Any(b => (request.Backend ?? b.Name) == b.Name && DeviceAdmission.CouldEver(RequestsOf(request.Needs), OfferOf(host, b.Name)));

    /// <summary>Devices of a host once some have been promised: until its next report the promise is the best knowledge.</summary>
    public static IReadOnlyList<HostDeviceReport> Without(IReadOnlyList<HostDeviceReport> devices, IReadOnlyList<string> promised) =>
        promised.Count == 0 ? devices : [.. devices.Select(d => promised.Contains(d.Address) ? d with { State = DeviceWords.Of(DeviceState.Leased) } : d)];

    /// <summary>What is asked for, in the words of the admission. Validated when the session was made; what is not understood fits nothing.</summary>
    public static IReadOnlyList<DeviceRequest> RequestsOf(SessionNeeds needs) =>
        [.. needs.Devices.Select(d => DeviceRequest.TryParse(d.Kind, d.Count) ?? throw SandboxException.Invalid("needs.devices", $"'{d.Kind}' is no kind of device."))];

    private static DeviceOffer OfferOf(HostReport host, string backend) => new(host.HostId, [.. host.Devices.Select(d => Offered(d, backend)).OfType<OfferedDevice>()])
    {
        Unusable = $"no IOMMU group, no reset, divided into virtual functions, or nothing that backend {backend} could hand it out with (the driver vfio-pci; for containers a CDI description)",
    };

    /// <summary>A report that cannot be read (of a newer server) offers nothing.</summary>
    private static OfferedDevice? Offered(HostDeviceReport device, string backend) =>
        PciAddress.TryParse(device.Address) is { } address && DeviceRequest.TryParse(device.Model) is { Vendor: { } vendor, Device: { } model } && DeviceWords.ParseKind(device.Kind) is { } kind
            ? new OfferedDevice(address, kind, vendor, model, DeviceWords.ParseState(device.State), device.Backends.Contains(backend) ? device.Group : null)
            : null;
}
