using Sandbox.Isolation.Devices;
using Sandbox.Isolation.Devices.Cdi;
using Sandbox.Isolation.TestSupport;
using Xunit;

namespace Sandbox.Isolation.Tests.Devices;

/// <summary>Which devices serve what is asked for, and which description of a container's devices is of which.</summary>
public sealed class AdmissionTests : IDisposable
{
    private readonly FakeSysfs _sysfs = new();
    private readonly string _folder = Directory.CreateTempSubdirectory("admission-").FullName;

    [Theory]
    [InlineData("gpu", DeviceKind.Gpu, null, null)]
    [InlineData("npu", DeviceKind.Npu, null, null)]
    [InlineData("10de", DeviceKind.Other, 0x10de, null)]
    [InlineData("10de:2684", DeviceKind.Other, 0x10de, 0x2684)]
    public void A_kind_is_a_word_or_numbers(string text, DeviceKind kind, int? vendor, int? device) =>
        Assert.Equal(new DeviceRequest(kind, 3, (ushort?)vendor, (ushort?)device), DeviceRequest.TryParse(text, 3));

    [Theory]
    [InlineData(null)]
    [InlineData("")]
    [InlineData("GPU")]
    [InlineData("10DE")]
    [InlineData("10de:268")]
    [InlineData("10de-2684")]
    [InlineData("0x10de")]
    public void Anything_else_is_none(string? text) => Assert.Null(DeviceRequest.TryParse(text));

    [Fact]
    public void A_device_that_serves_two_requests_goes_to_the_one_that_has_no_other()
    {
        var host = new DeviceOffer("a", [Device(1, DeviceKind.Gpu, 0x10de, 1), Device(2, DeviceKind.Gpu, 0x1002, 2), Device(3, DeviceKind.Npu, 0x10de, 3)]);

        // In any order: 10de could take 1 or 3, gpu could take 1 or 2, and only one way serves all.
        foreach (var requests in (DeviceRequest[][])[[Of("10de", 2), Of("gpu")], [Of("gpu"), Of("10de", 2)], [Of("gpu", 2), Of("npu")]])
        {
            var found = DeviceAdmission.Choose(requests, [host], out _);
            Assert.Equal(3, found!.Value.Devices.Distinct().Count());
        }

        Assert.Null(DeviceAdmission.Choose([Of("gpu", 2), Of("10de", 2)], [host], out var refusal));
        Assert.Equal("No set of 2 GPU together with set of 2 GPU or NPU of vendor 0x10de is free. Looked at: a (set of 2 GPU: has 2: 2 free, 0 leased, 0 to be reset, set of 2 GPU or NPU of vendor 0x10de: has 2: 2 free, 0 leased, 0 to be reset).", refusal);
        Assert.False(DeviceAdmission.CouldEver([Of("gpu", 3)], host));
    }

    [Fact]
    public void What_is_in_one_group_is_one_and_a_part_of_it_that_is_taken_takes_it_all()
    {
        var host = new DeviceOffer("a", [Device(1, DeviceKind.Gpu, 0x10de, 1), Device(2, DeviceKind.Gpu, 0x10de, 1)]);
        Assert.NotNull(DeviceAdmission.Choose([Of("gpu")], [host], out _));
        Assert.Null(DeviceAdmission.Choose([Of("gpu", 2)], [host], out _));
        Assert.Null(DeviceAdmission.Choose([Of("gpu")], [host with { Devices = [host.Devices[0], host.Devices[1] with { State = DeviceState.Dirty }] }], out _));
    }

    [Fact]
    public void What_is_divided_or_has_an_unreadable_lease_is_not_offered_as_free()
    {
        _sysfs.Add("0000:01:00.0", 0x10de, 1, 0x030000, group: 1);
        _sysfs.Add("0000:81:00.0", 0x8086, 1, 0x038000, group: 81);
        _sysfs.Add("0000:81:00.1", 0x8086, 1, 0x038000, group: 82);
        _sysfs.AddVirtualFunction("0000:81:00.0", "0000:81:00.1", 0);
        var devices = DeviceInventory.Read(_sysfs).Accelerators;

        var offer = DeviceOffer.Of("a", devices, [], [PciAddress.TryParse("0000:01:00.0")!.Value]);

        Assert.Equal([1, null, 82], offer.Devices.Select(d => d.IommuGroup));
        Assert.Equal([DeviceState.Dirty, DeviceState.Free, DeviceState.Free], offer.Devices.Select(d => d.State));
    }

    [Fact]
    public void A_description_is_of_the_one_device_whose_nodes_it_names()
    {
        _sysfs.Add("0000:01:00.0", 0x10de, 1, 0x030000, group: 1);
        _sysfs.Add("0000:02:00.0", 0x10de, 1, 0x030000, group: 2);
        _sysfs.Add("0000:03:00.0", 0x8086, 1, 0x120000, group: 3);
        _sysfs.Add("0000:04:00.0", 0x8086, 2, 0x120000, group: 4);
        _sysfs.Touch("bus/pci/devices/0000:01:00.0/drm/card1/dev", "226:1");
        _sysfs.Touch("bus/pci/devices/0000:03:00.0/accel/accel0/dev", "261:0");
        var nvidia = Path.Combine(_folder, "nvidia");
        Directory.CreateDirectory(Path.Combine(nvidia, "0000:02:00.0"));
        File.WriteAllText(Path.Combine(nvidia, "0000:02:00.0", "information"), "Model: \t\t A\nDevice Minor: \t 7\n");
        Directory.CreateDirectory(Path.Combine(_folder, "cdi"));
        File.WriteAllText(Path.Combine(_folder, "cdi", "a.json"), """
            { "cdiVersion": "0.6.0", "kind": "vendor.com/gpu", "devices": [
              { "name": "all", "containerEdits": { "deviceNodes": [ { "path": "/dev/dri/card1" }, { "path": "/dev/nvidia7" } ] } },
              { "name": "0", "containerEdits": { "deviceNodes": [ { "path": "/dev/gpu", "hostPath": "/dev/dri/card1" } ] } },
              { "name": "1", "containerEdits": { "deviceNodes": [ { "path": "/dev/nvidia7" } ] } },
              { "name": "npu", "containerEdits": { "deviceNodes": [ { "path": "/dev/accel/accel0" } ] } },
              { "name": "other", "containerEdits": { "deviceNodes": [ { "path": "/dev/fuse" } ] } } ] }
            """);

        var names = CdiNames.Of(_sysfs, DeviceInventory.Read(_sysfs).Devices, CdiRegistry.Read([Path.Combine(_folder, "cdi")]), nvidia);

        Assert.Equal(["0000:01:00.0 vendor.com/gpu=0", "0000:02:00.0 vendor.com/gpu=1", "0000:03:00.0 vendor.com/gpu=npu"], names.OrderBy(n => n.Key).Select(n => $"{n.Key} {n.Value}"));
    }

    public void Dispose()
    {
        _sysfs.Dispose();
        Directory.Delete(_folder, recursive: true);
    }

    private static DeviceRequest Of(string kind, int count = 1) => DeviceRequest.TryParse(kind, count)!;

    private static OfferedDevice Device(byte bus, DeviceKind kind, ushort vendor, ushort device) => new(new PciAddress(0, bus, 0, 0), kind, vendor, device, DeviceState.Free, bus <= 2 && device == 1 ? 1 : bus);
}
