namespace Sandbox.Isolation.Devices;

/// <summary>
/// Takes devices from their drivers and gives them to vfio-pci, back again, and resets them between tenants. Each step is written down before the next (<see cref="DeviceLeases"/>), so that whoever finds a device after a crash
/// knows what is to be done.
/// </summary>
/// <param name="sysfs">The devices.</param>
/// <param name="leases">Where it is written down.</param>
/// <param name="devRoot">Where the kernel shows device nodes.</param>
public sealed class DeviceBinding(SysfsTree sysfs, DeviceLeases leases, string devRoot = "/dev")
{
    private const string Pci = "bus/pci/devices";
    private const string Vfio = "vfio-pci";

    /// <summary>
    /// Gives a leased device and its whole IOMMU group, bridges apart, to vfio-pci. If one of them cannot be, all get their drivers back.
    /// </summary>
    /// <exception cref="DeviceException">The owner does not have it, the module vfio-pci is not loaded, or the kernel refuses.</exception>
    public async Task BindAsync(HostDevice device, DeviceOwner owner, DeviceInventory inventory, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(device);
        ArgumentNullException.ThrowIfNull(owner);
        ArgumentNullException.ThrowIfNull(inventory);
        if (!HasVfio)
        {
            throw new DeviceException($"The kernel has no driver {Vfio} loaded; modprobe {Vfio}");
        }

        var members = device.IommuMembers.Where(m => inventory.Find(m) is { Kind: not DeviceKind.Bridge }).ToList();
        foreach (var parent in members.Where(m => inventory.Find(m)!.VirtualFunctions.Count > 0))
        {
            throw new DeviceException($"Device {parent} has virtual functions: it stays with its driver while they exist.");
        }

        await leases.RememberDriversAsync(device.Address, owner, members.ToDictionary(m => m.ToString(), m => DriverOf(m.ToString())), cancellationToken);
        var done = new List<PciAddress>();
        try
        {
            foreach (var member in members)
            {
                done.Add(member);
                Rebind(member, Vfio);
            }
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or DeviceException)
        {
            var problems = RestoreDrivers(device.Address);
            throw new DeviceException($"Device {done[^1]} could not be given to {Vfio}: {e.Message}{(problems.Count > 0 ? "; and back: " + string.Join("; ", problems) : "")}", e);
        }
    }

    /// <summary>Whether the kernel has the driver that machines get devices from.</summary>
    public bool HasVfio => sysfs.Exists("bus/pci/drivers", Vfio, "bind");

    /// <summary>Leaves a leased device with its driver, for a container that reaches it through that: all there is to be done is to write the driver down, which gets it back after the reset.</summary>
    /// <exception cref="DeviceException">The owner does not have it, or it has no driver or one that serves no container.</exception>
    public async Task LendAsync(HostDevice device, DeviceOwner owner, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(device);
        ArgumentNullException.ThrowIfNull(owner);
        if (DriverOf(device.Address.ToString()) is not ({ Length: > 0 } and not Vfio and var driver))
        {
            throw new DeviceException($"Device {device.Address} has no driver of the host's that a container could use it through; load the driver of its maker.");
        }

        await leases.RememberDriversAsync(device.Address, owner, new Dictionary<string, string> { [device.Address.ToString()] = driver }, cancellationToken);
    }

    /// <summary>
    /// Makes a dirty device fit for the next tenant: resets it and each of its group that was handed out with it, and gives them back to their drivers. Only if all of that succeeded it is free again; else it stays dirty, with the reason, and may
    /// be tried again.
    /// </summary>
    /// <returns>What is written down of it now.</returns>
    /// <exception cref="DeviceException">It is not dirty.</exception>
    public async Task<DeviceLease> RecycleAsync(PciAddress address, CancellationToken cancellationToken)
    {
        var lease = await leases.BeginResetAsync(address, new Dictionary<string, string> { [address.ToString()] = DriverOf(address.ToString()) }, cancellationToken);
        List<string> problems = [];
        foreach (var member in lease.Drivers.Keys)
        {
            try
            {
                // The monitor's user must not keep a way to it, whoever gets that number next.
                VfioArguments.TakeBack(devRoot, sysfs.LinkName(Pci, member, "iommu_group"));
                if (DriverOf(member) is { Length: > 0 } driver && driver != Vfio)
                {
                    // A driver does not expect the state of its device to vanish, and must not read what a tenant left.
                    sysfs.Write(member, Pci, member, "driver/unbind");
                }

                Reset(member);
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException or DeviceException)
            {
                problems.Add($"reset of {member}: {e.Message}");
            }
        }

        if (problems.Count == 0)
        {
            problems.AddRange(RestoreDrivers(address));
        }

        return await leases.EndResetAsync(address, problems.Count > 0 ? string.Join("; ", problems) : null, CancellationToken.None);
    }

    private string DriverOf(string device) => sysfs.LinkName(Pci, device, "driver") ?? "";

    private void Reset(string device)
    {
        if (!sysfs.Exists(Pci, device, "reset"))
        {
            throw new DeviceException("the kernel offers no reset for it");
        }

        sysfs.Write("1", Pci, device, "reset");

        // A device that has fallen off the bus reads as all ones.
        if (sysfs.ReadLine(Pci, device, "vendor") is not { } vendor || vendor == "0xffff")
        {
            throw new DeviceException("it does not answer any more");
        }
    }

    private List<string> RestoreDrivers(PciAddress address)
    {
        var lease = leases.List().FirstOrDefault(l => l.Address == address);
        List<string> problems = [];
        foreach (var (member, driver) in lease?.Drivers ?? new Dictionary<string, string>())
        {
            try
            {
                Rebind(PciAddress.TryParse(member) ?? throw new DeviceException("no address"), driver);
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException or DeviceException)
            {
                problems.Add($"{member} to {(driver.Length > 0 ? driver : "no driver")}: {e.Message}");
            }
        }

        return problems;
    }

    /// <summary>The override decides which driver a probe takes; a line feed alone removes it.</summary>
    private void Rebind(PciAddress address, string driver)
    {
        var device = address.ToString();
        if (sysfs.LinkName(Pci, device, "driver") is { } current)
        {
            if (current == driver)
            {
                return;
            }

            sysfs.Write(device, Pci, device, "driver/unbind");
        }

        sysfs.Write(driver == Vfio ? Vfio : "\n", Pci, device, "driver_override");
        if (driver.Length == 0)
        {
            return;
        }

        sysfs.Write(device, "bus/pci/drivers_probe");
        if (sysfs.LinkName(Pci, device, "driver") is var now && now != driver)
        {
            throw new DeviceException($"the kernel gave it to {now ?? "no driver"} instead of {driver}");
        }
    }
}
