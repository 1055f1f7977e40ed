using Microsoft.Extensions.Logging.Abstractions;
using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Images;
using Sandbox.Isolation.Network;
using Sandbox.Isolation.TestSupport;
using Xunit;
using static Sandbox.Isolation.TestSupport.GuestRuns;
using static Sandbox.Isolation.TestSupport.OpenDoor;

namespace Sandbox.Isolation.Qemu.Tests;

/// <summary>A real guest reaches what is open and nothing else, however its machine came to be.</summary>
public sealed class NetworkTests(BackendFixture fixture) : IClassFixture<BackendFixture>
{
    private static readonly TemplateSizes Sizes = new() { Vcpus = 1, MemoryMiB = 448, DiskMiB = 204 };

    private static CancellationToken Ct => TestContext.Current.CancellationToken;

    [Fact]
    public async Task One_that_is_booted()
    {
        Assert.DoesNotContain((await fixture.Backend.ProbeAsync(Ct)).Warnings, w => w.Contains("network", StringComparison.Ordinal));
        Assert.True(fixture.Backend.Capabilities.Network);
        await using var vm = await fixture.Backend.StartAsync(fixture.Spec(diskMiB: 205), Ct);
        Assert.Equal("boot", vm.StartReport.Method);
        await CheckAsync(vm);
        var told = await ShellAsync(vm, "ip -o -4 addr show eth0; ip route; ip -6 addr show; cat /etc/resolv.conf /sys/class/net/eth0/address; ls /sys/class/net");
        Assert.Contains("10.53.0.2/30", told.Stdout, StringComparison.Ordinal);
        Assert.Contains("default via 10.53.0.1 dev eth0", told.Stdout, StringComparison.Ordinal);
        Assert.DoesNotContain("fe80", told.Stdout, StringComparison.Ordinal);
        Assert.EndsWith($"nameserver 10.53.0.1\n{NetworkPlan.GuestMac}\neth0\nlo\n", told.Stdout, StringComparison.Ordinal);

        // Root inside may send whatever it likes; a host that is not there, other protocols and forged senders all end at the door.
        var before = await vm.Network!.ReadDropsAsync(Ct);
        await ShellAsync(
            vm,
            """
            ip addr add 192.0.2.77/32 dev lo
            python3 - <<'END'
            import socket
            for source, target in (('192.0.2.77', '198.51.100.7'), ('10.53.0.2', '198.51.100.7'), ('10.53.0.2', '169.254.169.254')):
                s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind((source, 0)); s.sendto(b'x', (target, 443))
            s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW); s.bind(('eth0', 0)); s.send(bytes.fromhex('025342580001' '025342580002' '88cc') + bytes(50))
            END
            """,
            user: "root");
        var after = await vm.Network.ReadDropsAsync(Ct);
        Assert.Equal((1, 1, 1, 1), (after.Spoofed - before.Spoofed, after.Udp - before.Udp, after.NotPublic - before.NotPublic, after.Other - before.Other));
    }

    [Fact]
    public async Task One_that_is_cloned_and_one_of_the_pool()
    {
        await fixture.BuildGoldenAsync(Sizes);
        await using var clone = await fixture.Backend.StartAsync(fixture.Spec(Sizes.MemoryMiB, Sizes.DiskMiB), Ct);
        Assert.Equal("clone", clone.StartReport.Method);

        var spec = fixture.Spec(Sizes.MemoryMiB, Sizes.DiskMiB);
        await using var pooled = (await fixture.Backend.PrepareAsync(spec, Ct))!;
        await pooled.ClaimAsync(new MicroVmClaim("ses_claimant", 1, "claimant", spec.DiskPath + ".claimed"), Ct);
        await CheckAsync(clone);
        await CheckAsync(pooled);
        Assert.Contains("nameserver 10.53.0.1", (await ShellAsync(clone, "cat /etc/resolv.conf")).Stdout, StringComparison.Ordinal);
    }

    [Fact]
    public async Task One_that_was_saved_and_came_back_twice()
    {
        await fixture.BuildGoldenAsync(Sizes);
        var saved = new SavedInMemory();
        await using (var vm = await fixture.Backend.StartAsync(fixture.Spec(Sizes.MemoryMiB, Sizes.DiskMiB), Ct))
        {
            using var proxy = await OpenAsync(vm);

            await vm.SaveAsync(saved, SaveMode.Continue, _ => Task.CompletedTask, Ct);

            // A save that lets the machine run on leaves its network as it is.
            Assert.Equal($"to {Server}:443", await ConnectAsync(vm, Server, 443));
        }

        foreach (var again in (bool[])[false, true])
        {
            await using var back = await fixture.Backend.StartAsync(fixture.Spec(Sizes.MemoryMiB, Sizes.DiskMiB) with { Restore = new MachineRestore(saved, [], again ? "shared" : null, 2) }, Ct);
            Assert.Equal("restore", back.StartReport.Method);
            Assert.Equal(0, (await back.Network!.ReadDropsAsync(Ct)).Total);
            await CheckAsync(back);
            saved = new SavedInMemory();
            await back.SaveAsync(saved, SaveMode.StayStopped, _ => Task.CompletedTask, Ct);
        }
    }

    [Fact]
    public async Task A_connection_from_before_ends_although_its_program_only_waits()
    {
        await fixture.BuildGoldenAsync(Sizes);
        var saved = new SavedInMemory();
        await using (var vm = await fixture.Backend.StartAsync(fixture.Spec(Sizes.MemoryMiB, Sizes.DiskMiB), Ct))
        {
            using var proxy = await OpenAsync(vm);
            var start = new Sandbox.Guest.Protocol.StartExecution
            {
                ExecutionId = "holder",
                Command = new Sandbox.Guest.Protocol.Command
                {
                    Argv =
                    {
                        "python3", "-c",
                        $"import socket\ns = socket.create_connection(('{Server}', 443)); s.settimeout(60); s.recv(100); print('up', flush=True)\ntry: s.recv(1)\nexcept OSError as e: print(type(e).__name__)",
                    },
                },
            };
            var execution = await vm.Guest.StartExecutionAsync(start, Ct);
            ulong last = 0;
            await foreach (var e in execution.Events)
            {
                await execution.AcknowledgeAsync(last = e.Seq, Ct);
                if (e.Output is not null)
                {
                    break;
                }
            }

            await vm.SaveAsync(saved, SaveMode.StayStopped, _ => Task.CompletedTask, Ct);
            await vm.DisposeAsync();
            await using var back = await fixture.Backend.StartAsync(fixture.Spec(Sizes.MemoryMiB, Sizes.DiskMiB) with { Restore = new MachineRestore(saved, [new RestoredExecution("holder", last)]) }, Ct);
            using var other = await OpenAsync(back);
            var survivor = back.Survivors.Single();
            var told = "";
            await foreach (var e in survivor.Events)
            {
                told += e.Output?.Data.ToStringUtf8();
            }

            Assert.Equal("ConnectionAbortedError\n", told);
            Assert.Equal(0, other.Accepted);
        }
    }

    [Fact]
    public async Task A_host_without_networks_starts_machines_without_and_takes_none_that_had_one()
    {
        await using var backend = new QemuBackend(fixture.Options with { HostId = fixture.Options.HostId + "-n", Network = null }, NullLogger<QemuBackend>.Instance);
        Assert.False(backend.Capabilities.Network);
        await using (var vm = await backend.StartAsync(fixture.Spec(diskMiB: 206), Ct))
        {
            Assert.Null(vm.Network);
            Assert.Equal("lo\n", (await ShellAsync(vm, "ls /sys/class/net")).Stdout);
        }

        var golden = await fixture.BuildGoldenAsync(Sizes);
        Assert.NotNull(golden);
        Assert.Null(await backend.FindGoldenAsync(fixture.Image, Sizes, Ct));
        Directory.Delete(Path.Combine(fixture.Options.RuntimeRoot, fixture.Options.HostId + "-n"));
    }

    [Fact]
    public async Task A_machine_takes_its_network_with_it_and_so_does_the_reaper()
    {
        var directory = Path.Combine(fixture.Options.RuntimeRoot, fixture.Options.HostId, "net");
        string network;
        await using (var vm = await fixture.Backend.StartAsync(fixture.Spec(diskMiB: 207), Ct))
        {
            network = ((GuestNetwork)vm.Network!).NamespacePath;
            Assert.True(File.Exists(network));

            // As if the lease were lost.
            Assert.Equal(vm.Owner, Assert.Single(await fixture.Backend.ReapAsync(o => o.VmId != vm.Owner.VmId, Ct)).Owner);
            Assert.False(File.Exists(network));
        }

        await using (var vm = await fixture.Backend.StartAsync(fixture.Spec(diskMiB: 207), Ct))
        {
            network = ((GuestNetwork)vm.Network!).NamespacePath;
        }

        Assert.False(File.Exists(network));
        Assert.True(Directory.GetFiles(directory).Length <= fixture.Options.Network!.Ready);
    }
}
