using System.Diagnostics;
using System.Globalization;
using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Guest;
using Xunit;
using static Sandbox.Isolation.TestSupport.GuestRuns;

namespace Sandbox.Isolation.Oci.Tests;

/// <summary>Runaways: each ends where it should, and the session lives on where its kind can do that.</summary>
public sealed class LimitTests(BackendFixture fixture) : IClassFixture<BackendFixture>
{
    private static CancellationToken Ct => TestContext.Current.CancellationToken;

    [Fact]
    public async Task Memory_processes_and_disk_run_out_for_the_program_alone()
    {
        await using var vm = await fixture.Runc.StartAsync(fixture.Spec(memoryMiB: 192, diskMiB: 64), Ct);
        var memory = await ShellAsync(vm, "exec python3 -c 'b = []\nwhile True: b.append(bytearray(8 << 20))'", timeoutMs: 60_000);
        var nested = await ShellAsync(vm, "python3 -c 'b = []\nwhile True: b.append(bytearray(8 << 20))'", timeoutMs: 60_000);
        var forks = await ShellAsync(vm, "bomb() { bomb | bomb & }; bomb; sleep 60", timeoutMs: 2_000);
        var left = await ShellAsync(vm, "ls -d /proc/[0-9]* | wc -l");
        var disk = await ShellAsync(vm, "dd if=/dev/zero of=$HOME/fill bs=1M 2>&1; exit 4", timeoutMs: 60_000);
        var after = await ShellAsync(vm, "rm $HOME/fill; echo alive");

        Assert.True(memory.Exited.OutOfMemory, memory.Exited.ToString());
        Assert.True(nested.Exited.OutOfMemory, nested.Exited.ToString());
        Assert.True(forks.Exited is { PidsLimitHit: true, TimedOut: true }, forks.Exited.ToString());
        Assert.InRange(int.Parse(left.Stdout, CultureInfo.InvariantCulture), 1, 8);
        Assert.True(disk.Exited.DiskFull, disk.Stdout);
        Assert.Equal(4, disk.Exited.ExitCode);
        Assert.Equal("alive\n", after.Stdout);
        Assert.False((await ShellAsync(vm, "kill -9 $$")).Exited.OutOfMemory);
        Assert.False(vm.Exited.IsCompleted);
    }

    [Fact]
    public async Task A_disk_that_is_full_is_told_under_gVisor_and_memory_ends_what_uses_it()
    {
        await using var vm = await fixture.Runsc.StartAsync(fixture.Spec(memoryMiB: 192, diskMiB: 64), Ct);

        var disk = await ShellAsync(vm, "dd if=/dev/zero of=$HOME/fill bs=1M 2>&1; exit 4", timeoutMs: 60_000);
        Assert.True(disk.Exited.DiskFull, disk.Stdout);
        Assert.Equal("alive\n", (await ShellAsync(vm, "rm $HOME/fill; echo alive")).Stdout);

        // The host's kernel ends the largest process: mostly the one that keeps the program's memory, at times gVisor itself.
        try
        {
            var ran = await ShellAsync(vm, "exec python3 -c 'b = []\nwhile True: b.append(bytearray(8 << 20))'", timeoutMs: 60_000);
            Assert.True(ran.Exited.ExitCode != 0 || ran.Exited.Signal != 0, ran.Exited.ToString());
            Assert.Equal("alive\n", (await ShellAsync(vm, "echo alive")).Stdout);
        }
        catch (GuestUnavailableException)
        {
            var exit = await vm.Exited.WaitAsync(TimeSpan.FromSeconds(20), Ct);
            Assert.False(exit.Expected);
            Assert.Contains("memory limit", exit.Reason, StringComparison.Ordinal);
        }
    }

    [Theory]
    [InlineData(OciTier.HostKernel)]
    [InlineData(OciTier.Gvisor)]
    public async Task The_processor_is_shared_as_told(OciTier tier)
    {
        var spec = fixture.Spec() with { CpuLimit = 0.2 };
        await using var vm = await fixture.Of(tier).StartAsync(spec, Ct);
        var (before, clock) = (UsedMilliseconds(tier, spec), Stopwatch.StartNew());
        await ShellAsync(vm, "while :; do :; done", timeoutMs: 1500);
        var (used, passed) = (UsedMilliseconds(tier, spec) - before, clock.ElapsedMilliseconds);
        Assert.True(used < (passed * 0.2) + 150, $"{used} ms of processor time in {passed} ms with a fifth of one");
    }

    /// <summary>As the host counts it: gVisor takes a program that waits for its share for one that runs.</summary>
    private double UsedMilliseconds(OciTier tier, MicroVmSpec spec)
    {
        var groups = fixture.CgroupsOf(tier, spec.Owner.VmId);
        var nanoseconds = groups.Select(g => Path.Combine(g, "cpuacct.usage")).FirstOrDefault(File.Exists);
        return nanoseconds is not null
            ? double.Parse(File.ReadAllText(nanoseconds), CultureInfo.InvariantCulture) / 1e6
            : double.Parse(File.ReadLines(Path.Combine(groups[0], "cpu.stat")).First(l => l.StartsWith("usage_usec ", StringComparison.Ordinal))[11..], CultureInfo.InvariantCulture) / 1e3;
    }

    [Theory]
    [InlineData(OciTier.HostKernel)]
    [InlineData(OciTier.Gvisor)]
    public async Task A_timeout_finds_what_has_left_its_session_and_orphans_are_buried(OciTier tier)
    {
        await using var vm = await fixture.Of(tier).StartAsync(fixture.Spec(), Ct);
        var ran = await ShellAsync(vm, "trap '' TERM; (setsid sh -c 'trap \"\" TERM; while true; do sleep 60; done' &) ; (setsid sleep 77 &); while true; do sleep 1; done", timeoutMs: 300);
        Assert.True(ran.Exited.TimedOut);
        Assert.Equal("", (await ShellAsync(vm, "for p in /proc/[0-9]*; do tr '\\0' ' ' < $p/cmdline | grep '^sleep\\|trap'; done | grep -v grep")).Stdout);

        // Nobody's children become the agent's, which is their first process.
        await ShellAsync(vm, "for i in 1 2 3 4 5; do (setsid sh -c true &); done; sleep 0.3");
        for (var tries = 0; tries < 40 && (await ShellAsync(vm, "grep -l '^State:.Z' /proc/[0-9]*/status")).Stdout.Length > 0; tries++)
        {
            await Task.Delay(50, Ct);
        }

        Assert.Equal("", (await ShellAsync(vm, "grep -l '^State:.Z' /proc/[0-9]*/status")).Stdout);
    }
}
