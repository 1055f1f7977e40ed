using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Network;
using Sandbox.Isolation.TestSupport;
using Xunit;
using static Sandbox.Isolation.TestSupport.GuestRuns;
using static Sandbox.Isolation.TestSupport.OpenDoor;

namespace Sandbox.Isolation.Oci.Tests;

/// <summary>A container on the host's kernel reaches what is open and nothing else; one of gVisor's has no network.</summary>
public sealed class NetworkTests(BackendFixture fixture) : IClassFixture<BackendFixture>
{
    private static CancellationToken Ct => TestContext.Current.CancellationToken;

    [Theory]
    [InlineData("runc")]
    [InlineData("crun")]
    public async Task One_that_is_started(string runtime)
    {
        var backend = fixture.Make(OciTier.HostKernel, o => o with { Runtimes = [runtime] });
        Assert.True(backend.Capabilities.Network);
        await using var vm = await backend.StartAsync(fixture.Spec(), Ct);
        Assert.Equal(runtime, vm.StartReport.Accelerator);
        await CheckAsync(vm);
        var told = await ShellAsync(vm, "ip -o -4 addr show eth0; ip route; ip -6 addr show dev eth0; cat /etc/resolv.conf /sys/class/net/eth0/address; ls /sys/class/net");
        Assert.Contains("10.53.0.2/30", told.Stdout, StringComparison.Ordinal);
        Assert.Contains("default via 10.53.0.1 dev eth0", told.Stdout, StringComparison.Ordinal);
        Assert.DoesNotContain("fe80", told.Stdout, StringComparison.Ordinal);
        Assert.EndsWith($"nameserver 10.53.0.1\n{NetworkPlan.GuestMac}\neth0\nlo\n", told.Stdout, StringComparison.Ordinal);

        // A container's root has no say over its interface.
        var tried = await ShellAsync(vm, "ip addr add 192.0.2.77/32 dev lo; ip link set eth0 down; python3 -c 'import socket; socket.socket(socket.AF_PACKET, socket.SOCK_RAW)'; ip -o link show eth0", user: "root");
        Assert.Contains("UP", tried.Stdout, StringComparison.Ordinal);
        Assert.Contains("PermissionError", tried.Stderr, StringComparison.Ordinal);
    }

    [Fact]
    public async Task One_of_the_pool_and_one_that_came_back()
    {
        var spec = fixture.Spec();
        var saved = new SavedInMemory();
        await using (var pooled = (await fixture.Runc.PrepareAsync(spec, Ct))!)
        {
            await pooled.ClaimAsync(new MicroVmClaim("ses_claimant", 1, "claimant", spec.DiskPath + ".claimed"), Ct);
            await CheckAsync(pooled);
            await pooled.SaveAsync(saved, SaveMode.StayStopped, _ => Task.CompletedTask, Ct);
        }

        await using var back = await fixture.Runc.StartAsync(fixture.Spec() with { Restore = new MachineRestore(saved, []) }, Ct);
        await CheckAsync(back);
    }

    [Fact]
    public async Task It_goes_with_its_container_and_with_the_reaper()
    {
        string network;
        await using (var vm = await fixture.Runc.StartAsync(fixture.Spec(), Ct))
        {
            network = ((GuestNetwork)vm.Network!).NamespacePath;
            Assert.True(File.Exists(network));
            Assert.Contains(await fixture.Runc.ReapAsync(o => o.VmId != vm.Owner.VmId, Ct), r => r.Owner == vm.Owner);
            Assert.False(File.Exists(network));
        }

        await using (var vm = await fixture.Runc.StartAsync(fixture.Spec(), Ct))
        {
            network = ((GuestNetwork)vm.Network!).NamespacePath;
        }

        Assert.False(File.Exists(network));
    }

    [Fact]
    public async Task Gvisor_has_none()
    {
        Assert.False(fixture.Runsc.Capabilities.Network);
        await using var vm = await fixture.Runsc.StartAsync(fixture.Spec(), Ct);
        Assert.Null(vm.Network);
    }
}
