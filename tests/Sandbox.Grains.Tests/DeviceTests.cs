using Sandbox.Abstractions;
using Sandbox.Client;
using Sandbox.Grains.Hosts.Devices;
using Sandbox.Grains.Tests.Support;
using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Devices;
using Sandbox.Isolation.TestSupport;
using Xunit;

namespace Sandbox.Grains.Tests;

/// <summary>Devices of hosts in the hands of sessions, on a device tree of files: given once, reset before they are given again, whatever crashes.</summary>
public sealed class DeviceTests : IDisposable
{
    private const string Gpu = "0000:01:00.0";
    private const string Second = "0000:02:00.0";
    private static readonly CreateSessionRequest Wanting = new() { Template = "null", Untrusted = false, Needs = new() { Devices = [new("gpu")] } };
    private readonly FakeSysfs _sysfs = new();

    public DeviceTests()
    {
        _sysfs.AddDriver("vfio-pci");
        _sysfs.Add(Gpu, 0x10de, 0x2684, 0x030000, group: 1, driver: "nvidia");
    }

    private static CancellationToken Ct => TestContext.Current.CancellationToken;

    public void Dispose() => _sysfs.Dispose();

    [Fact]
    public async Task A_device_is_one_sessions_and_the_next_tenants_only_after_a_reset()
    {
        await using var cluster = await StartAsync();
        var session = await cluster.Client("acme").StartSessionAsync(Wanting);

        Assert.Equal("vfio-pci", Driver(Gpu));
        var lease = Assert.Single(Leases(cluster).List());
        Assert.Equal((DeviceState.Leased, session.Id, "host-a"), (lease.State, lease.Owner.SessionId, lease.Owner.HostId));
        Assert.Contains((await session.GetAsync()).Warnings, w => w.Contains("never verified on hardware", StringComparison.Ordinal));
        var refused = await RefusalAsync(cluster.Client("globex"), Wanting);
        Assert.Equal((SandboxErrorCode.ResourceExhausted, "No GPU is free. Looked at: host-a (has 1: 0 free, 1 leased, 0 to be reset)."), (refused.Code, refused.Message));
        Assert.Empty(Resets());

        await session.TerminateAsync();
        var other = await FreedAsync(cluster.Client("globex"));

        Assert.Equal([$"bus/pci/devices/{Gpu}/reset: 1"], Resets());
        Assert.Equal(other.Id, Assert.Single(Leases(cluster).List()).Owner.SessionId);
        await other.TerminateAsync();
        await Eventually.TrueAsync(() => Task.FromResult(Driver(Gpu) == "nvidia" && Leases(cluster).List()[0].State == DeviceState.Free));
    }

    [Fact]
    public async Task What_no_host_has_is_refused_for_good()
    {
        await using var cluster = await StartAsync(silos: 2);
        await Eventually.TrueAsync(async () => (await cluster.Grains.GetGrain<ISchedulerGrain>(0).ListHostsAsync()).Count(h => h.Backends[0].Usable) == 2);

        var npu = await RefusalAsync(cluster.Client(), Wanting with { Needs = new() { Devices = [new("npu")] } });
        Assert.Equal((SandboxErrorCode.Unsupported, "No NPU is free. Looked at: host-a (has none); host-b (has none)."), (npu.Code, npu.Message));
        var two = await RefusalAsync(cluster.Client(), Wanting with { Needs = new() { Devices = [new("10de:2684", 2)] } });
        Assert.Equal(SandboxErrorCode.Unsupported, two.Code);
        var both = await RefusalAsync(cluster.Client(), Wanting with { Needs = new() { Devices = [new("gpu")], MemorySnapshot = true } });
        Assert.Contains("cannot save the memory of a session that has devices", both.Message, StringComparison.Ordinal);
        var word = await RefusalAsync(cluster.Client(), Wanting with { Needs = new() { Devices = [new("toaster")] } });
        Assert.Equal(SandboxErrorCode.InvalidArgument, word.Code);
        Assert.Empty(Leases(cluster).List());
    }

    [Fact]
    public async Task Of_two_tenants_who_want_the_only_one_at_once_on_two_servers_of_a_machine_one_gets_it()
    {
        await using var cluster = await StartAsync(silos: 2);

        var made = await Task.WhenAll(new[] { "acme", "globex" }.Select(t => TryStartAsync(cluster.Client(t))));

        Assert.Single(made.OfType<SandboxSession>());
        Assert.Single(Leases(cluster).List());
        Assert.Equal(1, cluster.Nulls.Values.Sum(n => n.Live.Count));
    }

    [Fact]
    public async Task It_is_not_saved_and_no_warm_machine_serves_it()
    {
        await using var cluster = await SandboxTestCluster.StartNullAsync(1, hosts: o => o.WarmPoolFloor = 1, devices: _ => _sysfs);
        await Eventually.TrueAsync(() => Task.FromResult(cluster.Nulls["host-a"].Live.Count > 0));
        var session = await cluster.Client().StartSessionAsync(Wanting);
        Assert.Equal("boot", (await session.GetAsync()).StartMethod);

        foreach (var attempt in (Func<Task>[])[() => session.PauseAsync(), () => session.CheckpointAsync(), () => session.ForkAsync(2)])
        {
            var error = await Assert.ThrowsAsync<SandboxException>(attempt);
            Assert.Equal(SandboxErrorCode.Unsupported, error.Code);
            Assert.Contains("it has devices of its host, and backend 'null' cannot save what is in them", error.Message, StringComparison.Ordinal);
        }

        Assert.Equal(SessionState.Running, (await session.GetAsync()).State);
    }

    [Fact]
    public async Task A_machine_that_does_not_start_gives_its_device_back()
    {
        await using var cluster = await SandboxTestCluster.StartAsync(1, hosts: o => o.WarmPoolCeiling = 0, devices: _ => _sysfs);
        var backend = cluster.Backends["host-a"];
        var seen = "";
        backend.BeforeStart = (spec, _) =>
        {
            seen = string.Join(' ', spec.Devices.Select(d => $"{d.Address} in group {d.IommuGroup}, driver {Driver(d.Address.ToString())}"));
            throw new IsolationException("QEMU has no taste for it");
        };

        var session = await cluster.Client().CreateSessionAsync(new() { Needs = new() { Devices = [new("10de")] } });

        await Eventually.TrueAsync(async () => (await session.GetAsync()).State == SessionState.Failed);
        Assert.Equal($"{Gpu} in group 1, driver vfio-pci", seen);
        await Eventually.TrueAsync(() => Task.FromResult(Leases(cluster).List()[0].State == DeviceState.Free && Driver(Gpu) == "nvidia"));
    }

    [Fact]
    public async Task A_crashed_machine_gets_a_device_again_and_nobody_else_its_own()
    {
        await using var cluster = await SandboxTestCluster.StartAsync(1, hosts: o => o.WarmPoolCeiling = 0, devices: _ => _sysfs);
        var session = await cluster.Client().StartSessionAsync(new() { Needs = new() { Devices = [new("gpu")] } });

        cluster.Backends["host-a"].Of(session.Id).Crash("the VMM was killed");

        await Eventually.TrueAsync(async () => await session.GetAsync() is { State: SessionState.Running, Generation: > 1 });
        var lease = Assert.Single(Leases(cluster).List());
        Assert.Equal((DeviceState.Leased, (await session.GetAsync()).Generation), (lease.State, lease.Owner.Generation));
        Assert.Single(Resets());
    }

    [Fact]
    public async Task One_whose_reset_fails_is_given_to_nobody_and_the_report_says_why()
    {
        _sysfs.Add(Second, 0x10de, 0x2684, 0x030000, group: 2, driver: "nvidia");
        _sysfs.Fragile.Add(Gpu);
        await using var cluster = await StartAsync();
        var first = await cluster.Client().StartSessionAsync(Wanting);
        Assert.Equal(Gpu, Leases(cluster).List().Single(l => l.State == DeviceState.Leased).Address.ToString());
        await first.TerminateAsync();

        await FreedAsync(cluster.Client());

        Assert.Equal([DeviceState.Dirty, DeviceState.Leased], Leases(cluster).List().Select(l => l.State));
        var reports = await cluster.Grains.GetGrain<ISchedulerGrain>(0).ListHostsAsync();
        Assert.Contains("does not answer any more", Assert.Single(reports).Devices[0].Problem, StringComparison.Ordinal);
        Assert.Contains("1 leased, 1 to be reset", (await RefusalAsync(cluster.Client(), Wanting)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task What_a_dead_server_left_is_reset_when_its_host_is_back_and_by_no_other()
    {
        await using var cluster = await StartAsync(silos: 1, prepare: async leases =>
        {
            // Killed between the acquisition and the start of its machine: not even the drivers were written down.
            await leases.AcquireAsync(Device(Gpu), new DeviceOwner("ses_dead", 1, "vm-dead-1", "host-a"), Ct);
        });

        await Eventually.TrueAsync(() => Task.FromResult(Leases(cluster).List()[0].State == DeviceState.Free));
        Assert.Single(Resets());
        Assert.Equal("nvidia", Driver(Gpu));
        Assert.True(IndexOf("driver/unbind") < IndexOf("/reset"), "its driver must have been gone when it was reset");
        await FreedAsync(cluster.Client());

        // A second server of the machine, which knows nothing of that session.
        using var stranger = new HostDevices(new DeviceOptions { LeaseDirectory = cluster.LeaseDirectory, DevRoot = "/nonexistent" }, "host-z", _sysfs, Microsoft.Extensions.Logging.Abstractions.NullLogger.Instance);
        await stranger.RecoverAsync(_ => false, Ct);
        Assert.Equal(DeviceState.Leased, Leases(cluster).List()[0].State);
        Assert.Single(Resets());
    }

    [Fact]
    public void What_is_offered_is_the_operators_choice()
    {
        _sysfs.Add(Second, 0x1a03, 0x2000, 0x030000, group: 2);
        _sysfs.Touch($"bus/pci/devices/{Second}/boot_vga", "1\n");
        _sysfs.Add("0000:03:00.0", 0x8086, 0x0b25, 0x120000, group: 3);

        Assert.Equal([Gpu, "0000:03:00.0"], Offered(new DeviceOptions()));
        Assert.Equal([Second], Offered(new DeviceOptions { Addresses = [Second, "0000:07:00.0"] }));
        Assert.Empty(Offered(new DeviceOptions { Enabled = false }));
    }

    private string[] Offered(DeviceOptions options)
    {
        var folder = Directory.CreateTempSubdirectory("offer-").FullName;
        try
        {
            using var devices = new HostDevices(options with { LeaseDirectory = folder }, "host-a", _sysfs, Microsoft.Extensions.Logging.Abstractions.NullLogger.Instance);
            return [.. devices.Report([new TestBackend { Handover = DeviceHandover.Vfio }]).Select(d => d.Address)];
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    private async Task<SandboxTestCluster> StartAsync(int silos = 1, Func<DeviceLeases, Task>? prepare = null)
    {
        if (prepare is null)
        {
            return await SandboxTestCluster.StartNullAsync(silos, devices: _ => _sysfs);
        }

        // The directory is the cluster's: what a crash has left there must be there before it starts.
        var left = Directory.CreateTempSubdirectory("left-").FullName;
        await prepare(new DeviceLeases(left));
        return await SandboxTestCluster.StartNullAsync(
            silos,
            hosts: o =>
            {
                o.WarmPoolCeiling = 0;
                Directory.CreateDirectory(o.Devices.LeaseDirectory);
                foreach (var file in Directory.GetFiles(left, "*.json"))
                {
                    File.Move(file, Path.Combine(o.Devices.LeaseDirectory, Path.GetFileName(file)));
                }
            },
            devices: _ => _sysfs);
    }

    private static DeviceLeases Leases(SandboxTestCluster cluster) => new(cluster.LeaseDirectory);

    private HostDevice Device(string address) => DeviceInventory.Read(_sysfs).Find(PciAddress.TryParse(address)!.Value)!;

    private string? Driver(string address) => _sysfs.LinkName("bus/pci/devices", address, "driver");

    private List<string> Resets() => [.. _sysfs.Written.Where(w => w.Contains("/reset:", StringComparison.Ordinal))];

    private int IndexOf(string what) => _sysfs.Written.ToList().FindIndex(w => w.Contains(what, StringComparison.Ordinal));

    private static async Task<SandboxException> RefusalAsync(SandboxClient client, CreateSessionRequest request) =>
        await Assert.ThrowsAsync<SandboxException>(() => client.CreateSessionAsync(request));

    private static async Task<SandboxSession?> TryStartAsync(SandboxClient client)
    {
        try
        {
            return await client.StartSessionAsync(Wanting);
        }
        catch (SandboxException)
        {
            return null;
        }
    }

    /// <summary>A session that wants a device, as soon as there is one.</summary>
    private static async Task<SandboxSession> FreedAsync(SandboxClient client)
    {
        SandboxSession? session = null;
        await Eventually.TrueAsync(async () => (session = await TryStartAsync(client)) is not null);
        return session!;
    }
}
