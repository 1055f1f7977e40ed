using Sandbox.Isolation.Devices;
using Sandbox.Isolation.TestSupport;
using Xunit;

namespace Sandbox.Isolation.Tests.Devices;

/// <summary>Who may have a device, and that nobody has it twice, whatever crashes.</summary>
public sealed class LeaseTests : IDisposable
{
    private static readonly DeviceOwner Owner = new("ses_a", 3, "vm1");
    private static readonly DeviceOwner Other = new("ses_b", 1, "vm2");
    private static readonly Dictionary<string, string> NoDrivers = [];
    private readonly FakeSysfs _sysfs = new();
    private readonly string _folder = Directory.CreateTempSubdirectory("leases-").FullName;
    private readonly DeviceLeases _leases;

    public LeaseTests()
    {
        _leases = new DeviceLeases(_folder);
        _sysfs.Add("0000:01:00.0", 0x10de, 1, 0x030000, group: 1, driver: "nvidia");
        _sysfs.Add("0000:01:00.1", 0x10de, 2, 0x030000, group: 1);
        _sysfs.Add("0000:02:00.0", 0x10de, 1, 0x030000, group: 2);
        _sysfs.Add("0000:03:00.0", 0x10de, 1, 0x030000);
        _sysfs.Add("0000:04:00.0", 0x10de, 1, 0x030000, group: 4, resets: false);
        _sysfs.Add("0000:81:00.0", 0x8086, 1, 0x038000, group: 81);
        _sysfs.Add("0000:81:00.1", 0x8086, 1, 0x038000, group: 82);
        _sysfs.Add("0000:81:00.2", 0x8086, 1, 0x038000, group: 83);
        _sysfs.AddVirtualFunction("0000:81:00.0", "0000:81:00.1", 0);
        _sysfs.AddVirtualFunction("0000:81:00.0", "0000:81:00.2", 1);
    }

    private static CancellationToken Ct => TestContext.Current.CancellationToken;

    [Fact]
    public async Task A_leased_device_is_nobody_elses_and_neither_is_its_group()
    {
        await AcquireAsync("0000:01:00.0", Owner);

        Assert.Contains("session ses_a (generation 3, microVM vm1) has this device", await RefusalAsync("0000:01:00.0", Other), StringComparison.Ordinal);
        Assert.Contains("0000:01:00.0, which cannot be kept apart", await RefusalAsync("0000:01:00.1", Other), StringComparison.Ordinal);
        Assert.Equal(Other, (await AcquireAsync("0000:02:00.0", Other)).Owner);
        Assert.Equal((await AcquireAsync("0000:01:00.0", Owner)).ChangedAt, _leases.List()[0].ChangedAt);
    }

    [Fact]
    public async Task Virtual_functions_go_to_several_but_not_beside_their_physical_one()
    {
        await AcquireAsync("0000:81:00.1", Owner);
        await AcquireAsync("0000:81:00.2", Other);
        Assert.Contains("cannot be kept apart", await RefusalAsync("0000:81:00.0", new DeviceOwner("ses_c", 1, "vm3")), StringComparison.Ordinal);
    }

    [Fact]
    public async Task What_could_reach_the_host_or_never_be_cleaned_is_not_leased()
    {
        Assert.Contains("no IOMMU group", await RefusalAsync("0000:03:00.0", Owner), StringComparison.Ordinal);
        Assert.Contains("cannot be reset", await RefusalAsync("0000:04:00.0", Owner), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Only_a_reset_that_succeeded_makes_a_device_free()
    {
        var device = (await AcquireAsync("0000:01:00.0", Owner)).Address;
        await Assert.ThrowsAsync<DeviceException>(() => _leases.BeginResetAsync(device, NoDrivers, Ct));
        await Assert.ThrowsAsync<DeviceException>(() => _leases.EndResetAsync(device, null, Ct));
        await _leases.ReleaseAsync(device, Owner, Ct);
        Assert.Contains("waiting for a reset", await RefusalAsync("0000:01:00.0", Other), StringComparison.Ordinal);
        await _leases.BeginResetAsync(device, NoDrivers, Ct);
        Assert.Contains("being reset", await RefusalAsync("0000:01:00.0", Other), StringComparison.Ordinal);
        Assert.Equal(1, (await _leases.EndResetAsync(device, "no answer", Ct)).FailedResets);
        Assert.Contains("failed 1 times (no answer)", await RefusalAsync("0000:01:00.1", Other), StringComparison.Ordinal);
        await _leases.BeginResetAsync(device, NoDrivers, Ct);
        Assert.Equal((DeviceState.Free, 0, null), (await _leases.EndResetAsync(device, null, Ct)) is var l ? (l.State, l.FailedResets, l.Problem) : default);
        Assert.Equal(Other, (await AcquireAsync("0000:01:00.0", Other)).Owner);
    }

    [Fact]
    public async Task An_older_generation_gets_and_gives_nothing()
    {
        var device = (await AcquireAsync("0000:01:00.0", Owner)).Address;
        var older = Owner with { Generation = 2, VmId = "vm0" };
        Assert.Contains("taken over (generation 3)", await RefusalAsync("0000:02:00.0", older), StringComparison.Ordinal);
        await Assert.ThrowsAsync<DeviceException>(() => _leases.ReleaseAsync(device, older, Ct));
        await Assert.ThrowsAsync<DeviceException>(() => _leases.RememberDriversAsync(device, older, new Dictionary<string, string>(), Ct));

        // Also when it is free again: what the newer one had is remembered.
        await _leases.ReleaseAsync(device, Owner, Ct);
        await _leases.BeginResetAsync(device, NoDrivers, Ct);
        await _leases.EndResetAsync(device, null, Ct);
        Assert.Contains("taken over", await RefusalAsync("0000:01:00.0", older), StringComparison.Ordinal);
        await AcquireAsync("0000:01:00.0", Owner with { Generation = 4 });
    }

    [Fact]
    public async Task After_a_crash_devices_of_the_dead_are_dirty_and_of_the_living_leased()
    {
        await AcquireAsync("0000:01:00.0", Owner);
        await AcquireAsync("0000:02:00.0", Other);
        var third = (await AcquireAsync("0000:81:00.1", Owner)).Address;
        await _leases.ReleaseAsync(third, Owner, Ct);
        await _leases.BeginResetAsync(third, NoDrivers, Ct);
        await File.WriteAllTextAsync(Path.Combine(_folder, "0000:02:00.0.json.partial"), "{", Ct);

        var successor = new DeviceLeases(_folder);
        var recovered = await successor.RecoverAsync("", o => o == Other, Ct);

        Assert.Equal(["0000:01:00.0", "0000:81:00.1"], recovered.Select(r => r.Address.ToString()));
        Assert.Equal([DeviceState.Dirty, DeviceState.Leased, DeviceState.Dirty], successor.List().Select(l => l.State));
        Assert.Empty(await successor.RecoverAsync("", o => o == Other, Ct));
    }

    [Theory]
    [InlineData("")]
    [InlineData("{}")]
    [InlineData("null")]
    [InlineData("""{"Address":"0000:02:00.0","State":0,"Owner":{"SessionId":"s","Generation":1,"VmId":"v"},"Entangled":[],"ChangedAt":"2026-01-01T00:00:00Z"}""")]
    [InlineData("""{"Address":"0000:01:00.0","State":9,"Owner":{"SessionId":"s","Generation":1,"VmId":"v"},"Entangled":[],"ChangedAt":"2026-01-01T00:00:00Z"}""")]
    public async Task A_lease_that_cannot_be_read_counts_as_taken(string content)
    {
        await File.WriteAllTextAsync(Path.Combine(_folder, "0000:01:00.0.json"), content, Ct);
        Assert.Contains("counts as taken", await RefusalAsync("0000:01:00.0", Owner), StringComparison.Ordinal);
        Assert.Contains("counts as taken", await RefusalAsync("0000:01:00.1", Owner), StringComparison.Ordinal);
        await AcquireAsync("0000:02:00.0", Owner);
    }

    [Fact]
    public async Task Of_many_that_want_a_device_at_once_one_gets_it()
    {
        var device = Device("0000:01:00.0");
        var results = await Task.WhenAll(Enumerable.Range(0, 12).Select(i => Task.Run(async () =>
        {
            try
            {
                // Each as another server would: through its own object.
                return (await new DeviceLeases(_folder).AcquireAsync(device, new DeviceOwner($"ses_{i}", 1, $"vm{i}"), Ct)).Owner;
            }
            catch (DeviceException)
            {
                return null;
            }
        })));

        Assert.Equal(Assert.Single(results.OfType<DeviceOwner>()), Assert.Single(_leases.List()).Owner);
    }

    [Fact]
    public async Task A_refusal_says_which_hosts_were_looked_at()
    {
        await AcquireAsync("0000:01:00.0", Owner);
        var inventory = DeviceInventory.Read(_sysfs);
        var here = DeviceOffer.Of("host-a", inventory, _leases.List());
        var empty = new DeviceOffer("host-b", []);

        Assert.Equal(("host-a", "0000:02:00.0"), DeviceAdmission.Choose(new DeviceRequest(DeviceKind.Gpu, Vendor: 0x10de), [empty, here], out _) is { } one ? (one.HostId, one.Devices.Single().ToString()) : default);
        Assert.Null(DeviceAdmission.Choose(new DeviceRequest(DeviceKind.Gpu, 2, 0x10de), [here, empty], out var refusal));
        Assert.Equal("No set of 2 GPU of vendor 0x10de is free. Looked at: host-a (has 5: 1 free, 2 leased, 0 to be reset); host-b (has none).", refusal);
        Assert.Null(DeviceAdmission.Choose(new DeviceRequest(DeviceKind.Npu), [], out refusal));
        Assert.Equal("No NPU is free. No host was there to look at.", refusal);

        // The fullest host that has enough.
        var fuller = new DeviceOffer("host-c", [new OfferedDevice(PciAddress.TryParse("0000:09:00.0")!.Value, DeviceKind.Gpu, 0x10de, 1, DeviceState.Free, 9)]);
        Assert.Equal("host-c", DeviceAdmission.Choose(new DeviceRequest(DeviceKind.Gpu), [here, fuller], out _)!.Value.HostId);
    }

    public void Dispose()
    {
        _sysfs.Dispose();
        Directory.Delete(_folder, recursive: true);
    }

    private HostDevice Device(string address) => DeviceInventory.Read(_sysfs).Find(PciAddress.TryParse(address)!.Value)!;

    private Task<DeviceLease> AcquireAsync(string address, DeviceOwner owner) => _leases.AcquireAsync(Device(address), owner, Ct);

    private async Task<string> RefusalAsync(string address, DeviceOwner owner) => (await Assert.ThrowsAsync<DeviceException>(() => AcquireAsync(address, owner))).Message;
}
