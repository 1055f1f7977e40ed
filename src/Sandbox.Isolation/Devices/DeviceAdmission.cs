using System.Globalization;

namespace Sandbox.Isolation.Devices;

/// <summary>Chooses a host for a session that wants devices, or says of every host that was looked at why it is not.</summary>
public static class DeviceAdmission
{
    /// <summary>Chooses. Of several hosts the one with the fewest free devices of that kind, so that larger requests still find a host.</summary>
    /// <param name="request">What is asked for.</param>
    /// <param name="hosts">Hosts that would do otherwise.</param>
    /// <param name="refusal">Where none has them: for users.</param>
    /// <returns>The host and the devices, or <see langword="null"/>.</returns>
    public static (string HostId, IReadOnlyList<PciAddress> Devices)? Choose(DeviceRequest request, IReadOnlyList<DeviceOffer> hosts, out string refusal) => Choose([request], hosts, out refusal);

    /// <summary>Chooses a host that has all of several requests at once. No device serves two of them.</summary>
    /// <param name="requests">What is asked for, 16 devices at most in all.</param>
    /// <param name="hosts">Hosts that would do otherwise.</param>
    /// <param name="refusal">Where none has them: for users.</param>
    /// <returns>The host and the devices, in the order of the requests, or <see langword="null"/>.</returns>
    public static (string HostId, IReadOnlyList<PciAddress> Devices)? Choose(IReadOnlyList<DeviceRequest> requests, IReadOnlyList<DeviceOffer> hosts, out string refusal)
    {
        ArgumentNullException.ThrowIfNull(requests);
        ArgumentNullException.ThrowIfNull(hosts);
        var looked = hosts.Select(h => (Host: h, Devices: Assign(requests, Units(h, onlyFree: true)), Free: requests.Sum(r => Look(r, h).Free))).ToList();
        var best = looked.Where(l => l.Devices is not null).OrderBy(l => l.Free).ThenBy(l => l.Host.HostId, StringComparer.Ordinal).FirstOrDefault();
        if (best.Devices is not null)
        {
            refusal = "";
            return (best.Host.HostId, best.Devices);
        }

        refusal = $"No {string.Join(" together with ", requests.Select(Describe))} is free. "
            + (hosts.Count == 0 ? "No host was there to look at." : "Looked at: " + string.Join("; ", hosts.Select(h => $"{h.HostId} ({Why(requests, h)})")) + ".");
        return null;
    }

    /// <summary>Whether a host could serve the requests if nobody had anything of it: where not, waiting does not help.</summary>
    public static bool CouldEver(IReadOnlyList<DeviceRequest> requests, DeviceOffer host)
    {
        ArgumentNullException.ThrowIfNull(requests);
        ArgumentNullException.ThrowIfNull(host);
        return Assign(requests, Units(host, onlyFree: false)) is not null;
    }

    /// <summary>What can be handed out at once: the devices of one group go to one machine, and so count once.</summary>
    private static List<List<OfferedDevice>> Units(DeviceOffer host, bool onlyFree) =>
    [
        .. host.Devices.Where(d => d.IommuGroup is not null).GroupBy(d => d.IommuGroup).Select(g => g.OrderBy(d => d.Address).ToList()).Where(g => !onlyFree || g.TrueForAll(d => d.State == DeviceState.Free)),
    ];

    /// <summary>
    /// A device for each that is asked for, or <see langword="null"/>. By augmenting paths: one that would serve two requests is given to the one that has no other, whatever the order they are named in.
    /// </summary>
    private static IReadOnlyList<PciAddress>? Assign(IReadOnlyList<DeviceRequest> requests, List<List<OfferedDevice>> units)
    {
        var wanted = requests.SelectMany(r => Enumerable.Repeat(r, r.Count)).ToList();
        var holder = Enumerable.Repeat(-1, units.Count).ToArray();
        for (var i = 0; i < wanted.Count; i++)
        {
            if (!Place(i, new bool[units.Count]))
            {
                return null;
            }
        }

        return [.. wanted.Select((r, i) => units[Array.IndexOf(holder, i)].First(r.Fits).Address)];

        bool Place(int request, bool[] tried)
        {
            for (var u = 0; u < units.Count; u++)
            {
                if (!tried[u] && units[u].Exists(wanted[request].Fits))
                {
                    tried[u] = true;
                    if (holder[u] < 0 || Place(holder[u], tried))
                    {
                        holder[u] = request;
                        return true;
                    }
                }
            }

            return false;
        }
    }

    private static string Why(IReadOnlyList<DeviceRequest> requests, DeviceOffer host) =>
        requests.Count == 1 ? Look(requests[0], host).Why : string.Join(", ", requests.Select(r => $"{Describe(r)}: {Look(r, host).Why}"));

    private static (int Free, string Why) Look(DeviceRequest request, DeviceOffer host)
    {
        var fitting = host.Devices.Where(request.Fits).ToList();
        var usable = fitting.Where(d => d.IommuGroup is not null).ToList();
        var free = Units(host, onlyFree: true).Count(u => u.Exists(request.Fits));
        var why = fitting.Count == 0 ? "has none"
            : usable.Count == 0 ? $"has {fitting.Count}, none of which can be handed out: {host.Unusable}"
            : string.Create(CultureInfo.InvariantCulture, $"has {fitting.Count}: {free} free, {usable.Count(d => d.State == DeviceState.Leased)} leased, {usable.Count(d => d.State is DeviceState.Dirty or DeviceState.Resetting)} to be reset");
        return (free, why);
    }

    private static string Describe(DeviceRequest request) =>
        (request.Count > 1 ? string.Create(CultureInfo.InvariantCulture, $"set of {request.Count} ") : "")
        + request.Kind switch { DeviceKind.Npu => "NPU", DeviceKind.Gpu => "GPU", _ => "GPU or NPU" }
        + (request.Vendor is { } vendor ? string.Create(CultureInfo.InvariantCulture, $" of vendor 0x{vendor:x4}") : "") + (request.Device is { } device ? string.Create(CultureInfo.InvariantCulture, $", device 0x{device:x4}") : "");
}
