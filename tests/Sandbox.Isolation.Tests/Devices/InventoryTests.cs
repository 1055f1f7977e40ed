using Sandbox.Isolation.Devices;
using Sandbox.Isolation.TestSupport;
using Xunit;

namespace Sandbox.Isolation.Tests.Devices;

/// <summary>What is read of a host's devices, however well or badly its drivers say it.</summary>
public sealed class InventoryTests : IDisposable
{
    private readonly FakeSysfs _sysfs = new();

    [Fact]
    public void A_GPU_is_read_with_all_that_is_known_of_it()
    {
        _sysfs.Add("0000:3b:00.0", 0x10de, 0x2330, 0x030200, group: 12, driver: "nvidia");
        _sysfs.Add("0000:3b:00.1", 0x10de, 0x22a3, 0x040300, group: 12);
        _sysfs.Add("0000:3a:00.0", 0x8086, 0x2030, 0x060400, group: 11);
        _sysfs.Touch("bus/pci/devices/0000:3b:00.0/sriov_totalvfs", "16\n");
        _sysfs.Touch("bus/pci/devices/0000:3b:00.0/numa_node", "1\n");
        _sysfs.Touch("bus/pci/devices/0000:3b:00.0/mdev_supported_types/nvidia-474/available_instances", "4\n");
        _sysfs.Touch("bus/pci/devices/0000:3b:00.0/mdev_supported_types/nvidia-474/name", "GRID A100-1-5C\n");
        _sysfs.Touch("bus/pci/devices/0000:3b:00.0/mdev_supported_types/nvidia-474/device_api", "vfio-pci\n");

        var inventory = DeviceInventory.Read(_sysfs);

        Assert.Equal(["0000:3a:00.0", "0000:3b:00.0", "0000:3b:00.1"], inventory.Devices.Select(d => d.Address.ToString()));
        var gpu = Assert.Single(inventory.Accelerators);
        Assert.Equal((DeviceKind.Gpu, (ushort)0x10de, (ushort)0x2330, "nvidia", 12, 16, 1), (gpu.Kind, gpu.Vendor, gpu.Device, gpu.Driver, gpu.IommuGroup, gpu.MaxVirtualFunctions, gpu.NumaNode));
        Assert.Equal(["0000:3b:00.0", "0000:3b:00.1"], gpu.IommuMembers.Select(m => m.ToString()));
        Assert.Equal(["flr", "bus"], gpu.ResetMethods);
        Assert.Equal(new MdevType("nvidia-474", "GRID A100-1-5C", "vfio-pci", 4), Assert.Single(gpu.MdevTypes));
        Assert.Equal(DeviceKind.Bridge, inventory.Find(PciAddress.TryParse("0000:3a:00.0")!.Value)!.Kind);
    }

    [Fact]
    public void Virtual_functions_know_their_parent_and_the_parent_them()
    {
        _sysfs.Add("0000:81:00.0", 0x8086, 0x0bd5, 0x038000, group: 1);
        _sysfs.Add("0000:81:00.1", 0x8086, 0x0bd5, 0x038000, group: 2);
        _sysfs.Add("0000:81:00.2", 0x8086, 0x0bd5, 0x120000, group: 3);
        _sysfs.AddVirtualFunction("0000:81:00.0", "0000:81:00.1", 0);
        _sysfs.AddVirtualFunction("0000:81:00.0", "0000:81:00.2", 1);

        var devices = DeviceInventory.Read(_sysfs).Devices;

        Assert.Equal(["0000:81:00.1", "0000:81:00.2"], devices[0].VirtualFunctions.Select(v => v.ToString()));
        Assert.Equal("0000:81:00.0", devices[1].PhysicalFunction.ToString());
        Assert.Equal(DeviceKind.Npu, devices[2].Kind);
        Assert.Equal(["0000:81:00.0", "0000:81:00.1"], devices[1].Entangled.Order().Select(e => e.ToString()));
    }

    [Theory]
    [InlineData("vendor", "garbage\n")]
    [InlineData("vendor", "0x110de\n")]
    [InlineData("device", "")]
    [InlineData("class", "0xzz0000\n")]
    [InlineData("class", null)]
    public void A_device_that_does_not_say_what_it_is_is_left_out(string file, string? content)
    {
        _sysfs.Add("0000:01:00.0", 0x10de, 1, 0x030000);
        _sysfs.Add("0000:02:00.0", 0x1002, 2, 0x030000);
        var path = _sysfs.PathOf("bus/pci/devices/0000:01:00.0", file);
        File.Delete(path);
        if (content is not null)
        {
            File.WriteAllText(path, content);
        }

        Assert.Equal("0000:02:00.0", Assert.Single(DeviceInventory.Read(_sysfs).Devices).Address.ToString());
    }

    [Fact]
    public void Nonsense_beside_devices_and_in_their_optional_files_is_passed_over()
    {
        _sysfs.Add("0000:01:00.0", 0x10de, 1, 0x030000, group: 7, resets: false);
        Directory.CreateDirectory(_sysfs.PathOf("bus/pci/devices/../../etc"));
        Directory.CreateDirectory(_sysfs.PathOf("bus/pci/devices/0000:01:20.0"));
        _sysfs.Touch("bus/pci/devices/README", "x");
        _sysfs.Touch("bus/pci/devices/0000:01:00.0/sriov_totalvfs", new string('9', 100_000));
        _sysfs.Touch("bus/pci/devices/0000:01:00.0/numa_node", "\0\u001b[31m\n");
        _sysfs.Touch("bus/pci/devices/0000:01:00.0/mdev_supported_types/x/available_instances", "many\n");
        _sysfs.Link("bus/pci/devices/0000:01:00.0/physfn", "/etc/passwd");
        _sysfs.Link("bus/pci/devices/0000:01:00.0/virtfn0", "loop");
        _sysfs.Touch("kernel/iommu_groups/7/devices/not-an-address", "");
        Directory.CreateDirectory(_sysfs.PathOf("bus/pci/devices/0000:01:00.0/driver"));

        var device = Assert.Single(DeviceInventory.Read(_sysfs).Devices);

        Assert.Equal((0, (int?)null, (string?)null, (PciAddress?)null), (device.MaxVirtualFunctions, device.NumaNode, device.Driver, device.PhysicalFunction));
        Assert.Empty(device.MdevTypes);
        Assert.Empty(device.VirtualFunctions);
        Assert.Empty(device.ResetMethods);
        Assert.Equal("0000:01:00.0", Assert.Single(device.IommuMembers).ToString());
    }

    [Fact]
    public void A_host_without_PCI_has_no_devices() => Assert.Empty(DeviceInventory.Read(new SysfsTree("/nowhere")).Devices);

    [Fact]
    public void This_host_can_be_looked_at()
    {
        foreach (var device in DeviceInventory.Read(new SysfsTree()).Devices)
        {
            Assert.NotEqual(0u, device.Vendor);
        }
    }

    [Theory]
    [InlineData("0000:3b:00.0", true)]
    [InlineData("10000:3b:1f.7", true)]
    [InlineData("0000:3b:20.0", false)]
    [InlineData("0000:3b:00.8", false)]
    [InlineData("3b:00.0", false)]
    [InlineData("0000:3B:00.0", false)]
    [InlineData("0000:3b:00.0\n", false)]
    [InlineData("../../etc", false)]
    [InlineData(null, false)]
    public void An_address_is_what_the_kernel_writes(string? text, bool good) => Assert.Equal(good ? text : null, PciAddress.TryParse(text)?.ToString());

    [Fact]
    public async Task Parts_of_NVIDIA_GPUs_are_read_from_the_list_of_its_program()
    {
        const string List = """
            GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-5d5ba0d6-d33d-2b2c-524d-9e3d8d2b8a77)
              MIG 1g.5gb      Device  0: (UUID: MIG-c6d4f1ef-42e4-5de3-91c7-45d71c87eb3f)
              MIG 2g.10gb+me  Device  1: (UUID: MIG-GPU-5d5ba0d6-d33d-2b2c-524d-9e3d8d2b8a77/2/0)
              MIG nonsense
            GPU 1: NVIDIA H100 (UUID: GPU-11111111-2222-3333-4444-555555555555)
            Unable to determine the device handle
            """;

        Assert.Equal(
            [("1g.5gb", "MIG-c6d4f1ef-42e4-5de3-91c7-45d71c87eb3f"), ("2g.10gb+me", "MIG-GPU-5d5ba0d6-d33d-2b2c-524d-9e3d8d2b8a77/2/0")],
            NvidiaMig.Parse(List).Select(m => (m.Profile, m.Uuid)));
        Assert.All(NvidiaMig.Parse(List), m => Assert.Equal("GPU-5d5ba0d6-d33d-2b2c-524d-9e3d8d2b8a77", m.GpuUuid));
        Assert.Empty(NvidiaMig.Parse("  MIG 1g.5gb Device 0: (UUID: MIG-c6d4f1ef-42e4-5de3-91c7-45d71c87eb3f)"));
        Assert.Empty(await NvidiaMig.ReadAsync("/usr/bin/no-nvidia-smi", TestContext.Current.CancellationToken));
        Assert.Empty(await NvidiaMig.ReadAsync("/bin/false", TestContext.Current.CancellationToken));
    }

    public void Dispose() => _sysfs.Dispose();
}
