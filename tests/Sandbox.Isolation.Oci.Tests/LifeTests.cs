using System.Diagnostics;
using System.Globalization;
using Microsoft.Extensions.Logging.Abstractions;
using Sandbox.Isolation.Backends;
using Xunit;
using static Sandbox.Isolation.TestSupport.GuestRuns;

namespace Sandbox.Isolation.Oci.Tests;

/// <summary>How containers begin, wait in the pool, end, and what is found of them after a crash.</summary>
public sealed class LifeTests(BackendFixture fixture, ITestOutputHelper output) : IClassFixture<BackendFixture>
{
    private static CancellationToken Ct => TestContext.Current.CancellationToken;

    [Theory]
    [InlineData(OciTier.HostKernel)]
    [InlineData(OciTier.Gvisor)]
    public async Task A_container_of_the_pool_stands_still_until_it_is_claimed_and_is_its_claimants_then(OciTier tier)
    {
        var spec = fixture.Spec() with { Owner = new MicroVmOwner("pool-" + fixture.Of(tier).Name, "", 0) };
        await using var vm = (await fixture.Of(tier).PrepareAsync(spec, Ct))!;
        var pid = int.Parse(await File.ReadAllTextAsync(Path.Combine(fixture.DirectoryOf(tier, spec), "pid"), Ct), CultureInfo.InvariantCulture);
        var memory = ProcessesOf(tier, spec).Sum(Pss);
        var before = ProcessorTime(pid);
        await Task.Delay(300, Ct);
        Assert.Equal(before, ProcessorTime(pid));

        var place = spec.DiskPath + ".claimed";
        var clock = Stopwatch.StartNew();
        await vm.ClaimAsync(new MicroVmClaim("ses_claimed", 7, "claimed", place), Ct);
        var claimed = clock.Elapsed;
        var told = await ShellAsync(vm, "hostname; cat /etc/hostname; cat /etc/machine-id");
        output.WriteLine($"{fixture.Of(tier).Name}: {memory >> 10} KiB while it waits, claimed in {claimed.TotalMilliseconds:0.0} ms, first command after {clock.Elapsed.TotalMilliseconds:0.0} ms");
        var lines = told.Stdout.Split('\n');
        Assert.Equal(("claimed", "claimed", 32), (lines[0], lines[1], lines[2].Length));
        Assert.Equal(new MicroVmOwner(spec.Owner.VmId, "ses_claimed", 7), vm.Owner);
        Assert.Equal("pool", vm.StartReport.Method);
        Assert.True(File.Exists(place) && !File.Exists(spec.DiskPath));

        var reaped = await fixture.Of(tier).ReapAsync(o => o.SessionId == "ses_claimed", Ct);
        Assert.DoesNotContain(reaped, r => r.Owner.VmId == spec.Owner.VmId);
    }

    [Theory]
    [InlineData(OciTier.HostKernel)]
    [InlineData(OciTier.Gvisor)]
    public async Task The_disk_outlives_its_container_and_nothing_else_does(OciTier tier)
    {
        var spec = fixture.Spec();
        var vm = await fixture.Of(tier).StartAsync(spec, Ct);
        await ShellAsync(vm, "echo kept > $HOME/file; mkdir -m 700 $HOME/own");
        await ShellAsync(vm, "echo roots > /etc/roots", user: "root");
        Assert.True(Directory.Exists(fixture.DirectoryOf(tier, spec)));
        Assert.NotEmpty(fixture.CgroupsOf(tier, spec.Owner.VmId));
        await Assert.ThrowsAsync<IsolationException>(() => fixture.Of(tier).StartAsync(spec, Ct));
        await vm.DisposeAsync();

        Assert.True((await vm.Exited).Expected);
        RequireNothing(tier, spec);
        Assert.True(File.Exists(spec.DiskPath));

        // Another one has other ids; its files are those of the same users all the same.
        await using var second = await fixture.Of(tier).StartAsync(spec with { Owner = spec.Owner with { VmId = "again-" + spec.Owner.VmId, Generation = 2 } }, Ct);
        Assert.Equal("kept\nroots\nuser 700\nroot\n", (await ShellAsync(second, "cat $HOME/file /etc/roots; stat -c '%U %a' $HOME/own; stat -c %U /etc/roots")).Stdout);
    }

    [Fact]
    public async Task A_cancelled_start_leaves_nothing()
    {
        foreach (var milliseconds in (int[])[0, 10, 30, 60])
        {
            var spec = fixture.Spec();
            using var cancel = new CancellationTokenSource();
            var start = fixture.Runc.StartAsync(spec, cancel.Token);
            while (!Directory.Exists(fixture.DirectoryOf(OciTier.HostKernel, spec)) && !start.IsCompleted)
            {
                await Task.Delay(1, Ct);
            }

            await Task.Delay(milliseconds, Ct);
            await cancel.CancelAsync();
            try
            {
                await (await start).DisposeAsync();
            }
            catch (OperationCanceledException)
            {
                // As asked.
            }

            RequireNothing(OciTier.HostKernel, spec);
        }
    }

    [Theory]
    [InlineData(OciTier.HostKernel)]
    [InlineData(OciTier.Gvisor)]
    public async Task A_container_whose_processes_are_killed_is_reported_and_reaped(OciTier tier)
    {
        var (dead, live) = (fixture.Spec(), fixture.Spec());
        var vm = await fixture.Of(tier).StartAsync(dead, Ct);
        await using var other = await fixture.Of(tier).StartAsync(live, Ct);
        foreach (var pid in ProcessesOf(tier, dead))
        {
            using var process = Process.GetProcessById(pid);
            process.Kill();
        }

        Assert.False((await vm.Exited.WaitAsync(TimeSpan.FromSeconds(20), Ct)).Expected);
        var reaped = await fixture.Of(tier).ReapAsync(o => o == live.Owner, Ct);
        Assert.Contains(reaped, r => r.Owner == dead.Owner);
        Assert.DoesNotContain(reaped, r => r.Owner == live.Owner);
        Assert.Equal("yes\n", (await ShellAsync(other, "echo yes")).Stdout);
        await vm.DisposeAsync();
        RequireNothing(tier, dead);
    }

    [Theory]
    [InlineData(OciTier.HostKernel)]
    [InlineData(OciTier.Gvisor)]
    public async Task What_a_crashed_server_has_left_is_found_frozen_or_not(OciTier tier)
    {
        var (running, frozen) = (fixture.Spec(), fixture.Spec());
        var first = await fixture.Of(tier).StartAsync(running, Ct);
        var second = (await fixture.Of(tier).PrepareAsync(frozen, Ct))!;

        // Another server of the same host finds them with nobody who holds them.
        var successor = new OciBackend(tier, fixture.Options, NullLogger<OciBackend>.Instance);
        Directory.CreateDirectory(Path.Combine(fixture.HostRoot(tier), "vm-half"));
        var reaped = await successor.ReapAsync(_ => false, Ct);

        Assert.Equal(["half", running.Owner.VmId, frozen.Owner.VmId], reaped.Select(r => r.Owner.VmId).Order().OrderBy(v => v != "half"));
        Assert.Contains(reaped, r => r.Owner == frozen.Owner && r.What.Contains("processes", StringComparison.Ordinal));
        Assert.False((await first.Exited.WaitAsync(TimeSpan.FromSeconds(20), Ct)).Expected);
        Assert.False((await second.Exited.WaitAsync(TimeSpan.FromSeconds(20), Ct)).Expected);
        await first.DisposeAsync();
        await second.DisposeAsync();
        RequireNothing(tier, running);
        RequireNothing(tier, frozen);
        Assert.Empty(await successor.ReapAsync(_ => false, Ct));
    }

    [Theory]
    [InlineData(0, 384, 256)]
    [InlineData(1, 16, 256)]
    [InlineData(1, 384, 1)]
    public async Task Absurd_sizes_are_refused(int vcpus, int memory, int disk)
    {
        var spec = fixture.Spec() with { Vcpus = vcpus, MemoryMiB = memory, DiskMiB = disk };
        await Assert.ThrowsAsync<IsolationException>(() => fixture.Runc.StartAsync(spec, Ct));
        Assert.False(File.Exists(spec.DiskPath));
    }

    private void RequireNothing(OciTier tier, MicroVmSpec spec)
    {
        Assert.False(Directory.Exists(fixture.DirectoryOf(tier, spec)));
        Assert.Empty(fixture.CgroupsOf(tier, spec.Owner.VmId));
        Assert.DoesNotContain(
            Directory.GetDirectories("/sys/block", "loop*").Select(d => Path.Combine(d, "loop", "backing_file")).Where(File.Exists),
            f => File.ReadAllText(f).Contains(spec.DiskPath, StringComparison.Ordinal));
        Assert.DoesNotContain(spec.Owner.VmId + "/", File.ReadAllText("/proc/self/mountinfo"), StringComparison.Ordinal);
    }

    private int[] ProcessesOf(OciTier tier, MicroVmSpec spec) =>
        [.. fixture.CgroupsOf(tier, spec.Owner.VmId).SelectMany(c => File.ReadLines(Path.Combine(c, "cgroup.procs"))).Select(int.Parse).Distinct()];

    private static long Pss(int pid) =>
        File.ReadLines($"/proc/{pid}/smaps_rollup").Where(l => l.StartsWith("Pss:", StringComparison.Ordinal)).Sum(l => long.Parse(l.Split(' ', StringSplitOptions.RemoveEmptyEntries)[1], CultureInfo.InvariantCulture) << 10);

    private static string ProcessorTime(int pid)
    {
        var stat = File.ReadAllText($"/proc/{pid}/stat");
        return string.Join(' ', stat[(stat.LastIndexOf(')') + 2)..].Split(' ')[11..13]);
    }
}
