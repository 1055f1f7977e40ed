namespace Sandbox.Isolation.Devices.Cdi;

/// <summary>
/// Which description of the Container Device Interface is of which PCI device. The interface does not say; the device nodes do: those that a description wants, and those that the kernel or NVIDIA's driver shows for a device. A
/// description that reaches more than one device (<c>nvidia.com/gpu=all</c>) is of none: its container would get what is another's.
/// </summary>
public static class CdiNames
{
    private const string Pci = "bus/pci/devices";
    private static readonly string[] Subsystems = ["drm", "accel"];

    /// <summary>Full names by device. A device that nothing describes is left out; of several descriptions the first by name is taken.</summary>
    /// <param name="sysfs">The kernel's view.</param>
    /// <param name="devices">The devices in question: all of the host, not only those that are offered.</param>
    /// <param name="registry">The descriptions.</param>
    /// <param name="nvidia">Where NVIDIA's driver tells of its GPUs.</param>
    public static IReadOnlyDictionary<PciAddress, string> Of(SysfsTree sysfs, IEnumerable<HostDevice> devices, CdiRegistry registry, string nvidia = "/proc/driver/nvidia/gpus")
    {
        ArgumentNullException.ThrowIfNull(sysfs);
        ArgumentNullException.ThrowIfNull(devices);
        ArgumentNullException.ThrowIfNull(registry);
        var nodes = devices.ToDictionary(d => d.Address, d => NodesOf(sysfs, d.Address.ToString(), nvidia));
        var found = new Dictionary<PciAddress, string>();
        foreach (var name in registry.Names)
        {
            var wanted = registry.Find(name).Device.ContainerEdits.DeviceNodes.Select(n => n.HostPath ?? n.Path).ToHashSet(StringComparer.Ordinal);
            var reached = nodes.Where(n => n.Value.Overlaps(wanted)).Select(n => n.Key).ToList();
            if (reached.Count == 1)
            {
                found.TryAdd(reached[0], name);
            }
        }

        return found;
    }

    private static HashSet<string> NodesOf(SysfsTree sysfs, string address, string nvidia)
    {
        var nodes = Subsystems.SelectMany(s => sysfs.List(Pci, address, s).Select(n => s == "drm" ? $"/dev/dri/{n}" : $"/dev/{s}/{n}")).ToHashSet(StringComparer.Ordinal);
        var information = Path.Combine(nvidia, address, "information");
        try
        {
            foreach (var line in File.Exists(information) ? File.ReadAllLines(information) : [])
            {
                if (line.Split(':', 2) is ["Device Minor", var minor] && int.TryParse(minor.Trim(), out var number))
                {
                    nodes.Add($"/dev/nvidia{number}");
                }
            }
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // The driver is going away: as if it were not there.
        }

        return nodes;
    }
}
