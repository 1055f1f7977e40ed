using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Devices;
using Sandbox.Isolation.Qemu.Machine;
using Xunit;

namespace Sandbox.Isolation.Qemu.Tests;

/// <summary>Machines with devices of the host, as far as they go without one: never verified on hardware.</summary>
public sealed class DeviceTests(BackendFixture fixture) : IClassFixture<BackendFixture>
{
    private static readonly MicroVmDevice Gpu = new(PciAddress.TryParse("0000:3b:00.0")!.Value, 31999);

    private static CancellationToken Ct => TestContext.Current.CancellationToken;

    [Fact]
    public void A_machine_with_devices_has_a_bus_for_them_and_is_otherwise_the_same()
    {
        var spec = fixture.Spec();
        var without = CommandLine.Build(spec, new QemuDirectory("/run/x", "vm1"), "kvm", 0, network: true, clone: false, incoming: false).ToList();
        var with = CommandLine.Build(spec with { Devices = [Gpu] }, new QemuDirectory("/run/x", "vm1"), "kvm", 0, network: true, clone: false, incoming: false).ToList();

        var machine = without.IndexOf("-machine") + 1;
        Assert.Equal(without[machine] + ",pcie=on", with[machine]);
        Assert.DoesNotContain("pcie", string.Join(' ', without), StringComparison.Ordinal);
        Assert.Equal(["-device", "pcie-root-port,id=port1,chassis=1", "-device", "vfio-pci,id=device1,bus=port1,host=0000:3b:00.0,display=off"], with[without.Count..]);
        with[machine] = without[machine];
        Assert.Equal(without, with[..without.Count]);
    }

    [Fact]
    public async Task Without_its_device_a_machine_does_not_start_and_nothing_is_left_of_it()
    {
        var spec = fixture.Spec() with { Devices = [Gpu] };

        var error = await Assert.ThrowsAsync<IsolationException>(() => fixture.Backend.StartAsync(spec, Ct));

        Assert.Matches("There is no /dev/vfio/31999|0000:3b:00.0", error.Message);
        Assert.Empty(await fixture.Backend.ReapAsync(_ => false, Ct));
    }
}
