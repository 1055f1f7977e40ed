using Sandbox.Isolation.Devices;
using Sandbox.Isolation.TestSupport;
using Xunit;

namespace Sandbox.Isolation.Tests.Devices;

/// <summary>Devices on their way to vfio-pci and back.</summary>
public sealed class BindingTests : IDisposable
{
    private static readonly DeviceOwner Owner = new("ses_a", 1, "vm1");
    private static readonly PciAddress Gpu = PciAddress.TryParse("0000:01:00.0")!.Value;
    private readonly FakeSysfs _sysfs = new();
    private readonly string _folder = Directory.CreateTempSubdirectory("binding-").FullName;
    private readonly DeviceLeases _leases;
    private readonly DeviceBinding _binding;

    public BindingTests()
    {
        _leases = new DeviceLeases(_folder);
        _binding = new DeviceBinding(_sysfs, _leases, _folder);
        _sysfs.Add("0000:00:01.0", 0x8086, 9, 0x060400, group: 1, driver: "pcieport");
        _sysfs.Add("0000:01:00.0", 0x10de, 1, 0x030000, group: 1, driver: "nvidia");
        _sysfs.Add("0000:01:00.1", 0x10de, 2, 0x040300, group: 1, driver: "snd_hda_intel");
        _sysfs.Add("0000:01:00.2", 0x10de, 3, 0x0c0330, group: 1);
    }

    private static CancellationToken Ct => TestContext.Current.CancellationToken;

    [Fact]
    public async Task A_group_goes_to_vfio_pci_without_its_bridges_and_comes_back_after_a_reset()
    {
        await BindAsync();
        Assert.Equal(["pcieport", "vfio-pci", "vfio-pci", "vfio-pci"], Drivers());

        await _leases.ReleaseAsync(Gpu, Owner, Ct);
        Assert.Equal(DeviceState.Free, (await _binding.RecycleAsync(Gpu, Ct)).State);

        Assert.Equal(["pcieport", "nvidia", "snd_hda_intel", null], Drivers());
        var resets = _sysfs.Written.Where(w => w.Contains("/reset", StringComparison.Ordinal)).ToList();
        Assert.Equal(3, resets.Count);
        Assert.True(_sysfs.Written.ToList().IndexOf(resets[^1]) < _sysfs.Written.ToList().FindLastIndex(w => w.Contains("drivers_probe", StringComparison.Ordinal)));
        Assert.DoesNotContain(_sysfs.Written, w => w.Contains("0000:00:01.0", StringComparison.Ordinal));
    }

    [Fact]
    public async Task A_group_that_cannot_be_given_whole_is_given_back_whole()
    {
        _sysfs.OnWrite = w => _ = w == "bus/pci/drivers_probe: 0000:01:00.1" && File.ReadAllText(_sysfs.PathOf("bus/pci/devices/0000:01:00.1/driver_override")) == "vfio-pci" ? throw new IOException("Device or resource busy") : 0;

        var e = await Assert.ThrowsAsync<DeviceException>(BindAsync);

        Assert.Contains("0000:01:00.1 could not be given to vfio-pci: Device or resource busy", e.Message, StringComparison.Ordinal);
        Assert.Equal(["pcieport", "nvidia", "snd_hda_intel", null], Drivers());
        Assert.Equal(DeviceState.Leased, Assert.Single(_leases.List()).State);
    }

    [Fact]
    public async Task A_reset_that_fails_keeps_the_device_from_everybody()
    {
        await BindAsync();
        await _leases.ReleaseAsync(Gpu, Owner, Ct);
        _sysfs.Fragile.Add("0000:01:00.0");

        var lease = await _binding.RecycleAsync(Gpu, Ct);

        Assert.Equal((DeviceState.Dirty, 1), (lease.State, lease.FailedResets));
        Assert.Contains("0000:01:00.0: it does not answer any more", lease.Problem, StringComparison.Ordinal);

        // No driver of the host's touches what is in that state.
        Assert.Equal("vfio-pci", Drivers()[2]);
        _sysfs.Fragile.Clear();
        _sysfs.Touch("bus/pci/devices/0000:01:00.0/vendor", "0x10de\n");
        Assert.Equal(DeviceState.Free, (await _binding.RecycleAsync(Gpu, Ct)).State);
    }

    [Fact]
    public async Task A_driver_that_does_not_take_its_device_back_keeps_it_dirty()
    {
        await BindAsync();
        await _leases.ReleaseAsync(Gpu, Owner, Ct);
        _sysfs.OnWrite = w => _ = w.StartsWith("bus/pci/drivers_probe: 0000:01:00.0", StringComparison.Ordinal) ? throw new IOException("No such device") : 0;

        var lease = await _binding.RecycleAsync(Gpu, Ct);

        Assert.Equal(DeviceState.Dirty, lease.State);
        Assert.Contains("0000:01:00.0 to nvidia: No such device", lease.Problem, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_device_lent_to_a_container_keeps_its_driver_until_it_is_reset()
    {
        var gpu = DeviceInventory.Read(_sysfs).Find(Gpu)!;
        await _leases.AcquireAsync(gpu, Owner, Ct);
        await _binding.LendAsync(gpu, Owner, Ct);
        Assert.Empty(_sysfs.Written);

        await _leases.ReleaseAsync(Gpu, Owner, Ct);
        Assert.Equal(DeviceState.Free, (await _binding.RecycleAsync(Gpu, Ct)).State);

        // Its driver does not look while the device forgets, and nothing else of the group was anybody's.
        Assert.Equal(
            ["bus/pci/devices/0000:01:00.0/driver/unbind: 0000:01:00.0", "bus/pci/devices/0000:01:00.0/reset: 1", "bus/pci/devices/0000:01:00.0/driver_override:", "bus/pci/drivers_probe: 0000:01:00.0"],
            _sysfs.Written.Select(w => w.TrimEnd()));
        Assert.Equal("nvidia", Drivers()[1]);
    }

    [Fact]
    public async Task A_device_without_a_driver_of_the_hosts_is_lent_to_no_container()
    {
        await _leases.AcquireAsync(DeviceInventory.Read(_sysfs).Find(Gpu)!, Owner, Ct);
        File.Delete(_sysfs.PathOf("bus/pci/devices/0000:01:00.0/driver"));
        Assert.Contains("no driver of the host's", (await Assert.ThrowsAsync<DeviceException>(() => _binding.LendAsync(DeviceInventory.Read(_sysfs).Find(Gpu)!, Owner, Ct))).Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Nothing_is_touched_for_who_does_not_have_it_or_without_the_module()
    {
        var inventory = DeviceInventory.Read(_sysfs);
        Assert.Contains("modprobe vfio-pci", (await Assert.ThrowsAsync<DeviceException>(() => _binding.BindAsync(inventory.Find(Gpu)!, Owner, inventory, Ct))).Message, StringComparison.Ordinal);
        _sysfs.AddDriver("vfio-pci");
        await Assert.ThrowsAsync<DeviceException>(() => _binding.BindAsync(inventory.Find(Gpu)!, Owner, inventory, Ct));
        await _leases.AcquireAsync(inventory.Find(Gpu)!, Owner, Ct);
        await Assert.ThrowsAsync<DeviceException>(() => _binding.BindAsync(inventory.Find(Gpu)!, Owner with { Generation = 0 }, inventory, Ct));
        await Assert.ThrowsAsync<DeviceException>(() => _binding.RecycleAsync(Gpu, Ct));
        Assert.Empty(_sysfs.Written);
    }

    [Fact]
    public void Each_device_of_a_machine_is_behind_a_port_of_its_own() => Assert.Equal(
        [
            "-device", "pcie-root-port,id=port1,chassis=1", "-device", "vfio-pci,id=device1,bus=port1,host=0000:01:00.0,display=off",
            "-device", "pcie-root-port,id=port2,chassis=2", "-device", "vfio-pci,id=device2,bus=port2,host=0000:02:00.0,display=off",
        ],
        VfioArguments.ForQemu([PciAddress.TryParse("0000:02:00.0")!.Value, Gpu]));

    public void Dispose()
    {
        _sysfs.Dispose();
        Directory.Delete(_folder, recursive: true);
    }

    private async Task BindAsync()
    {
        _sysfs.AddDriver("vfio-pci");
        var inventory = DeviceInventory.Read(_sysfs);
        await _leases.AcquireAsync(inventory.Find(Gpu)!, Owner, Ct);
        await _binding.BindAsync(inventory.Find(Gpu)!, Owner, inventory, Ct);
    }

    private List<string?> Drivers() => [.. DeviceInventory.Read(_sysfs).Devices.Where(d => d.Address.Bus == 0).Concat(
        new[] { "0000:01:00.0", "0000:01:00.1", "0000:01:00.2" }.Select(a => new HostDevice { Address = PciAddress.TryParse(a)!.Value, Vendor = 0, Device = 0, Class = 0, Driver = _sysfs.LinkName("bus/pci/devices", a, "driver") })).Select(d => d.Driver)];
}
