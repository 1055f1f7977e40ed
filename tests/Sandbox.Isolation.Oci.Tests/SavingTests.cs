using System.Globalization;
using Sandbox.Guest.Protocol;
using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Guest;
using Sandbox.Isolation.Images;
using Sandbox.Isolation.TestSupport;
using Xunit;
using static Sandbox.Isolation.TestSupport.GuestRuns;

namespace Sandbox.Isolation.Oci.Tests;

/// <summary>Containers that are saved, and what comes back.</summary>
public sealed class SavingTests(BackendFixture fixture, ITestOutputHelper output) : IClassFixture<BackendFixture>
{
    private static CancellationToken Ct => TestContext.Current.CancellationToken;

    [Fact]
    public async Task Under_gVisor_a_restored_container_goes_on_where_it_was_saved_with_nothing_lost_or_repeated()
    {
        var saved = new SavedInMemory();
        var spec = fixture.Spec(memoryMiB: 512);
        var log = new ExecutionLog();
        await using (var vm = await fixture.Runsc.StartAsync(spec, Ct))
        {
            await MakeContextAsync(vm, "c");
            await CodeAsync(vm, "c", "import os, random\nx = 41\nf = open('/home/user/open', 'w+'); _ = f.write('before '); f.flush()\nd = list(range(300000))");
            await ShellAsync(vm, "echo kept > $HOME/file; dd if=/dev/urandom of=$HOME/big bs=1M count=3 2>/dev/null; echo unsynced > $HOME/late");
            log.GoOn(await vm.Guest.StartExecutionAsync(ExecutionLog.Counting, Ct));
            await log.AtLeastAsync(30);

            var report = await vm.SaveAsync(saved, SaveMode.StayStopped, _ => Task.CompletedTask, Ct);
            output.WriteLine($"saved: stopped {report.Stopped.TotalMilliseconds:0.0} ms, memory {report.MemoryBytes / 1e6:0.0} MB, disk {report.DiskBytes / 1e6:0.0} MB");
            await Assert.ThrowsAsync<IsolationException>(() => vm.SaveAsync(new SavedInMemory(), SaveMode.Continue, _ => Task.CompletedTask, Ct));
            Assert.Equal((long)spec.DiskMiB << 20, saved.Facts.DiskBytes);
            Assert.True(saved.Facts.MemoryBytes > 0);
        }

        await log.Reading;
        File.Delete(spec.DiskPath);
        var again = fixture.Spec(memoryMiB: 512) with { Restore = new MachineRestore(saved, [new RestoredExecution(ExecutionLog.Id, log.LastSeq), new RestoredExecution("unknown", 3)]) };
        Assert.Equal(RestoreFit.Ready, await fixture.Runsc.FitAsync(again.ImageDirectory, SizesOf(again), saved.Facts, Ct));
        await using var restored = await fixture.Runsc.StartAsync(again, Ct);
        output.WriteLine($"restored in {restored.StartReport.Duration.TotalMilliseconds:0} ms");
        Assert.Equal("restore", restored.StartReport.Method);
        await Assert.ThrowsAsync<GuestUnavailableException>(async () => await restored.Survivors[1].Events.GetAsyncEnumerator(Ct).MoveNextAsync());
        var seen = log.Count;
        log.GoOn(restored.Survivors[0]);
        await log.AtLeastAsync(seen + 100);
        log.RequireEveryLine();

        Assert.Equal("42 before after\n", (await CodeAsync(restored, "c", "f.write('after'); f.seek(0); print(x + 1, f.read())")).Stdout);
        var lines = (await ShellAsync(restored, "cat $HOME/file $HOME/late; stat -c %s $HOME/big; hostname; date +%s")).Stdout.Split('\n');
        Assert.Equal(["kept", "unsynced", (3 << 20).ToString(CultureInfo.InvariantCulture), again.Hostname], lines[..4]);
        Assert.InRange(long.Parse(lines[4], CultureInfo.InvariantCulture), DateTimeOffset.UtcNow.ToUnixTimeSeconds() - 60, DateTimeOffset.UtcNow.ToUnixTimeSeconds() + 2);

        await restored.Survivors[0].SignalAsync(9, Ct);
        await log.Reading.WaitAsync(TimeSpan.FromSeconds(30), Ct);
        Assert.NotNull(log.Exited);
        Assert.Empty((await restored.Guest.RequestAsync(new Request { ListExecutions = new ListExecutions() }, Ct)).Executions.Executions);
    }

    [Fact]
    public async Task Under_gVisor_a_checkpoint_is_of_its_moment_the_container_runs_on_and_siblings_are_independent()
    {
        var saved = new SavedInMemory();
        var spec = fixture.Spec(memoryMiB: 512);
        await using var vm = await fixture.Runsc.StartAsync(spec, Ct);
        await MakeContextAsync(vm, "c");
        await CodeAsync(vm, "c", "import os, random\nx = 'then'");
        await ShellAsync(vm, "echo then > $HOME/file");
        var log = new ExecutionLog();
        log.GoOn(await vm.Guest.StartExecutionAsync(ExecutionLog.Counting, Ct));
        await log.AtLeastAsync(10);
        var noted = 0UL;
        var report = await vm.SaveAsync(saved, SaveMode.Continue, _ => Task.FromResult(noted = log.LastSeq), Ct);
        output.WriteLine($"checkpoint: stopped {report.Stopped.TotalMilliseconds:0.0} ms, memory {report.MemoryBytes / 1e6:0.0} MB");
        await CodeAsync(vm, "c", "x = 'now'");
        await ShellAsync(vm, "echo now > $HOME/file");
        await log.AtLeastAsync(log.Count + 20);
        log.RequireEveryLine();

        // Two of one image at once, while the original runs.
        var then = log.AsOf(noted);
        await using var left = await RestoreAsync(saved, new RestoredExecution(ExecutionLog.Id, then.LastSeq));
        await using var right = await RestoreAsync(saved);
        then.GoOn(left.Survivors.Single());
        await then.AtLeastAsync(then.Count + 20);
        then.RequireEveryLine();
        Assert.Empty((await right.Guest.RequestAsync(new Request { ListExecutions = new ListExecutions() }, Ct)).Executions.Executions);
        const string Random = "print(os.urandom(8).hex()); print(random.random())";
        var (a, b) = ((await CodeAsync(left, "c", Random)).Stdout.Split('\n'), (await CodeAsync(right, "c", Random)).Stdout.Split('\n'));
        Assert.All(a.Zip(b).SkipLast(1), p => Assert.NotEqual(p.First, p.Second));
        await ShellAsync(left, "echo left > $HOME/mine");
        Assert.Equal("then\nnone\n", (await ShellAsync(right, "cat $HOME/file $HOME/mine 2>/dev/null || echo none")).Stdout);
        Assert.Equal("then\n", (await CodeAsync(right, "c", "print(x)")).Stdout);
        Assert.Equal("now\n", (await CodeAsync(vm, "c", "print(x)")).Stdout);

        // And of a second generation.
        var second = new SavedInMemory();
        await CodeAsync(left, "c", "x = 'left'");
        await left.SaveAsync(second, SaveMode.StayStopped, _ => Task.CompletedTask, Ct);
        await left.ContinueAsync(Ct);
        Assert.Equal("left\n", (await CodeAsync(left, "c", "print(x)")).Stdout);
        await using var grandchild = await RestoreAsync(second);
        Assert.Equal("left left\n", (await CodeAsync(grandchild, "c", "print(x, open('/home/user/mine').read().strip())")).Stdout);
    }

    [Fact]
    public async Task On_the_hosts_kernel_the_disk_comes_back_and_what_ran_does_not()
    {
        var saved = new SavedInMemory();
        await using var vm = await fixture.Runc.StartAsync(fixture.Spec(), Ct);
        var log = new ExecutionLog();
        log.GoOn(await vm.Guest.StartExecutionAsync(ExecutionLog.Counting, Ct));
        await log.AtLeastAsync(10);
        await ShellAsync(vm, "echo then > $HOME/file; dd if=/dev/urandom of=$HOME/big bs=1M count=3 2>/dev/null");
        await ShellAsync(vm, "echo r > /etc/r; chmod 600 /etc/r", user: "root");
        var sum = (await ShellAsync(vm, "md5sum < $HOME/big")).Stdout;
        var whileStopped = 0;
        var report = await vm.SaveAsync(saved, SaveMode.Continue, async ct =>
        {
            // It stands still: no line comes.
            whileStopped = log.Count;
            await Task.Delay(50, ct);
            Assert.Equal(whileStopped, log.Count);
        }, Ct);
        output.WriteLine($"saved: stopped {report.Stopped.TotalMilliseconds:0.0} ms, disk {report.DiskBytes / 1e6:0.0} MB");
        Assert.Equal((0L, 0L), (report.MemoryBytes, saved.Facts.MemoryBytes));
        await log.AtLeastAsync(whileStopped + 20);
        log.RequireEveryLine();
        await ShellAsync(vm, "echo now > $HOME/file");

        for (var i = 0; i < 2; i++)
        {
            await using var fork = await fixture.Runc.StartAsync(fixture.Spec() with { Restore = new MachineRestore(saved, [new RestoredExecution(ExecutionLog.Id, 3)]) }, Ct);
            output.WriteLine($"restored in {fork.StartReport.Duration.TotalMilliseconds:0} ms");
            Assert.Equal("restore", fork.StartReport.Method);
            await Assert.ThrowsAsync<GuestUnavailableException>(async () => await fork.Survivors.Single().Events.GetAsyncEnumerator(Ct).MoveNextAsync());
            Assert.Equal("then\n" + sum, (await ShellAsync(fork, "cat $HOME/file; md5sum < $HOME/big; cat /etc/r 2>/dev/null")).Stdout);
            Assert.Equal("r\n", (await ShellAsync(fork, "cat /etc/r", user: "root")).Stdout);
        }

        Assert.Equal("now\n", (await ShellAsync(vm, "cat $HOME/file")).Stdout);
        var stopped = new SavedInMemory();
        await vm.SaveAsync(stopped, SaveMode.StayStopped, _ => Task.CompletedTask, Ct);
        var before = log.Count;
        await Task.Delay(50, Ct);
        Assert.Equal(before, log.Count);
        await vm.ContinueAsync(Ct);
        await log.AtLeastAsync(before + 5);
    }

    [Theory]
    [InlineData(OciTier.HostKernel)]
    [InlineData(OciTier.Gvisor)]
    public async Task A_save_or_restore_that_fails_harms_nothing(OciTier tier)
    {
        var backend = fixture.Of(tier);
        var spec = fixture.Spec();
        await using var vm = await backend.StartAsync(spec, Ct);
        var failing = new SavedInMemory { OnPage = _ => throw new IOException("the store is gone") };
        if (tier == OciTier.Gvisor)
        {
            await Assert.ThrowsAsync<IsolationException>(() => vm.SaveAsync(failing, SaveMode.StayStopped, _ => Task.CompletedTask, Ct));
        }

        await Assert.ThrowsAsync<IsolationException>(() => vm.SaveAsync(new SavedInMemory(), SaveMode.Continue, _ => throw new IOException("nothing could be written down"), Ct));
        Assert.Equal("alive\n", (await ShellAsync(vm, "echo alive")).Stdout);

        var saved = new SavedInMemory();
        await vm.SaveAsync(saved, SaveMode.Continue, _ => Task.CompletedTask, Ct);
        foreach (var facts in (MachineFacts[])[saved.Facts with { Fingerprint = "other" }, saved.Facts with { Backend = "qemu" }, saved.Facts with { DiskBytes = 1 << 30 }])
        {
            Assert.Equal(RestoreFit.Foreign, await backend.FitAsync(spec.ImageDirectory, SizesOf(spec), facts, Ct));
            var foreign = fixture.Spec() with { Restore = new MachineRestore(saved.With(facts), []) };
            await Assert.ThrowsAsync<IsolationException>(() => backend.StartAsync(foreign, Ct));
            Assert.False(File.Exists(foreign.DiskPath));
        }

        if (tier == OciTier.Gvisor)
        {
            var damaged = saved.With(saved.Facts);
            damaged.OnPage = n => n == 5 ? throw new IOException("the store is gone") : Task.CompletedTask;
            var target = fixture.Spec() with { Restore = new MachineRestore(damaged, []) };
            await Assert.ThrowsAsync<IsolationException>(() => backend.StartAsync(target, Ct));
            Assert.False(File.Exists(target.DiskPath) || File.Exists(target.DiskPath + ".partial") || Directory.Exists(fixture.DirectoryOf(tier, target)));
        }

        Assert.Empty(Directory.Exists(Path.Combine(fixture.Options.CacheDirectory, "checkpoints")) ? Directory.GetDirectories(Path.Combine(fixture.Options.CacheDirectory, "checkpoints")).SelectMany(Directory.GetDirectories) : []);
    }

    private Task<IMicroVm> RestoreAsync(SavedInMemory saved, params RestoredExecution[] executions) =>
        fixture.Runsc.StartAsync(fixture.Spec(memoryMiB: 512) with { Restore = new MachineRestore(saved, executions) }, Ct);

    private static TemplateSizes SizesOf(MicroVmSpec spec) => new() { Vcpus = spec.Vcpus, MemoryMiB = spec.MemoryMiB, DiskMiB = spec.DiskMiB };

    private static Task MakeContextAsync(IMicroVm vm, string id) =>
        vm.Guest.RequestAsync(new Request { CreateContext = new CreateContext { ContextId = id, Language = "python" } }, Ct);
}
