using System.Globalization;
using System.Text;
using Sandbox.Guest.Protocol;
using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Guest;
using Sandbox.Isolation.Images;
using Sandbox.Isolation.Qemu.Machine;
using Sandbox.Isolation.Qemu.Memory;
using Sandbox.Isolation.TestSupport;
using Xunit;
using static Sandbox.Isolation.TestSupport.GuestRuns;

namespace Sandbox.Isolation.Qemu.Tests;

/// <summary>Machines that are saved, and what comes back.</summary>
public sealed class SavingTests(BackendFixture fixture, ITestOutputHelper output) : IClassFixture<BackendFixture>
{
    /// <summary>Sizes that nobody else uses.</summary>
    private static readonly TemplateSizes Sizes = new() { Vcpus = 1, MemoryMiB = 416, DiskMiB = 180 };

    private static CancellationToken Ct => TestContext.Current.CancellationToken;

    [Fact]
    public async Task A_restored_machine_goes_on_where_it_was_saved_with_nothing_lost_or_repeated()
    {
        await fixture.BuildGoldenAsync(Sizes);
        var saved = new SavedInMemory();
        var spec = Spec();
        Log log;
        await using (var vm = await fixture.Backend.StartAsync(spec, Ct))
        {
            await MakeContextAsync(vm, "c");
            await CodeAsync(vm, "c", "import os, random\nx = 41\nf = open('/home/user/open', 'w+'); _ = f.write('before '); f.flush()\nd = list(range(300000))");
            await ShellAsync(vm, "echo kept > $HOME/file; dd if=/dev/urandom of=$HOME/big bs=1M count=3 2>/dev/null; sync; echo unsynced > $HOME/late");
            log = await CountAsync(vm);
            await log.AtLeastAsync(30);

            var report = await vm.SaveAsync(saved, SaveMode.StayStopped, _ => Task.CompletedTask, Ct);
            Tell("saved", report, saved);
            await Assert.ThrowsAsync<IsolationException>(() => vm.SaveAsync(new SavedInMemory(), SaveMode.Continue, _ => Task.CompletedTask, Ct));
        }

        await log.Reading;
        File.Delete(spec.DiskPath);
        await using var again = await RestoreAsync(saved, log);
        output.WriteLine($"restored in {again.StartReport.Duration.TotalMilliseconds:0} ms");
        Assert.Equal("restore", again.StartReport.Method);
        var seen = log.Count;
        log.GoOn(again.Survivors.Single());
        await log.AtLeastAsync(seen + 100);
        log.RequireEveryLine();

        Assert.Equal("42 before after\n", (await CodeAsync(again, "c", "f.write('after'); f.seek(0); print(x + 1, f.read())")).Stdout);
        var told = await ShellAsync(again, "cat $HOME/file $HOME/late; stat -c %s $HOME/big; md5sum < $HOME/big; hostname; date +%s");
        var lines = told.Stdout.Split('\n');
        Assert.Equal(["kept", "unsynced", (3 << 20).ToString(CultureInfo.InvariantCulture)], lines[..3]);
        Assert.Equal("test-" + again.Owner.VmId, lines[4]);
        Assert.InRange(long.Parse(lines[5], CultureInfo.InvariantCulture), DateTimeOffset.UtcNow.ToUnixTimeSeconds() - 60, DateTimeOffset.UtcNow.ToUnixTimeSeconds() + 2);

        // The execution ends as any does, and nothing else is left running.
        await again.Survivors.Single().SignalAsync(9, Ct);
        await log.Reading.WaitAsync(TimeSpan.FromMinutes(1), Ct);
        Assert.NotNull(log.Exited);
        Assert.Empty((await again.Guest.RequestAsync(new Request { ListExecutions = new ListExecutions() }, Ct)).Executions.Executions);
    }

    [Fact]
    public async Task Siblings_of_one_saved_machine_are_independent_and_random_and_a_second_generation_has_everything()
    {
        await fixture.BuildGoldenAsync(Sizes);
        var saved = new SavedInMemory();
        await using (var vm = await fixture.Backend.StartAsync(Spec(), Ct))
        {
            await MakeContextAsync(vm, "c");
            await CodeAsync(vm, "c", "import os, random, numpy\nx = 1\nbig = bytearray(os.urandom(2 << 20))\nfirst = bytes(big[:16]).hex()");
            await vm.SaveAsync(saved, SaveMode.StayStopped, _ => Task.CompletedTask, Ct);
        }

        var key = Guid.NewGuid().ToString("N");
        var (left, right) = (await RestoreAsync(saved, null, key), await RestoreAsync(saved, null, key));
        Assert.Equal(1, saved.Reads);
        var second = new SavedInMemory();
        await using (left)
        await using (right)
        {
            const string Random = "print(os.urandom(8).hex()); print(random.random()); print(numpy.random.rand())";
            var (a, b) = ((await CodeAsync(left, "c", Random)).Stdout.Split('\n'), (await CodeAsync(right, "c", Random)).Stdout.Split('\n'));
            Assert.All(a.Zip(b).SkipLast(1), p => Assert.NotEqual(p.First, p.Second));
            await CodeAsync(left, "c", "x = 'left'");
            await ShellAsync(left, "echo left > $HOME/mine");
            Assert.Equal("1 True\n", (await CodeAsync(right, "c", "print(x, bytes(big[:16]).hex() == first)")).Stdout);
            Assert.Equal("none\n", (await ShellAsync(right, "cat $HOME/mine 2>/dev/null || echo none")).Stdout);

            var report = await left.SaveAsync(second, SaveMode.Continue, _ => Task.CompletedTask, Ct);
            Tell("second generation", report, second);
            await CodeAsync(left, "c", "x = 'later'");
            Assert.Equal("later\n", (await CodeAsync(left, "c", "print(x)")).Stdout);
        }

        // Of the second generation, with a memory of its own; and a third, from that.
        var third = new SavedInMemory();
        await using (var vm = await RestoreAsync(second))
        {
            Assert.Equal("left True\n", (await CodeAsync(vm, "c", "print(x, bytes(big[:16]).hex() == first)")).Stdout);
            await CodeAsync(vm, "c", "y = 3");
            await vm.SaveAsync(third, SaveMode.StayStopped, _ => Task.CompletedTask, Ct);
        }

        await using var last = await RestoreAsync(third);
        Assert.Equal("left 3 True\n", (await CodeAsync(last, "c", "print(x, y, bytes(big[:16]).hex() == first)")).Stdout);
        Assert.Equal("left\n", (await ShellAsync(last, "cat $HOME/mine")).Stdout);
    }

    [Fact]
    public async Task A_live_checkpoint_is_the_state_of_its_moment_and_the_machine_goes_on()
    {
        await fixture.BuildGoldenAsync(Sizes);
        var saved = new SavedInMemory();
        await using var vm = await fixture.Backend.StartAsync(Spec(), Ct);
        await MakeContextAsync(vm, "c");
        await CodeAsync(vm, "c", "x = 'then'");
        await ShellAsync(vm, "echo then > $HOME/file; sync");
        var log = await CountAsync(vm);
        await log.AtLeastAsync(10);

        var noted = 0UL;
        var report = await vm.SaveAsync(saved, SaveMode.Continue, _ => Task.FromResult(noted = log.LastSeq), Ct);
        Tell("checkpoint", report, saved);
        await CodeAsync(vm, "c", "x = 'now'");
        await ShellAsync(vm, "echo now > $HOME/file; sync");
        await log.AtLeastAsync(log.Count + 50);
        log.RequireEveryLine();

        var then = log.AsOf(noted);
        await using var old = await RestoreAsync(saved, then);
        then.GoOn(old.Survivors.Single());
        await then.AtLeastAsync(then.Count + 50);
        then.RequireEveryLine();
        Assert.Equal("then\n", (await CodeAsync(old, "c", "print(x)")).Stdout);
        Assert.Equal("then\n", (await ShellAsync(old, "cat $HOME/file")).Stdout);
        Assert.Equal("now\n", (await CodeAsync(vm, "c", "print(x)")).Stdout);
        Assert.Equal("now\n", (await ShellAsync(vm, "cat $HOME/file")).Stdout);
    }

    [Fact]
    public async Task Forks_and_the_machine_they_come_from_have_its_memory_once_and_are_independent()
    {
        await fixture.BuildGoldenAsync(Sizes);
        await using var vm = await fixture.Backend.StartAsync(Spec(), Ct);
        await MakeContextAsync(vm, "c");
        await CodeAsync(vm, "c", "import os, hashlib\nx = 'first'\nbig = bytearray(os.urandom(12 << 20))\nsum = lambda: hashlib.md5(big).hexdigest()\nwas = sum()");
        var log = await CountAsync(vm);
        await log.AtLeastAsync(10);
        var before = OwnMiB(vm);

        var noted = 0UL;
        var saved = new SavedInMemory { StateName = Guid.NewGuid().ToString("N") };
        Tell("to fork", await vm.SaveAsync(saved, SaveMode.ContinueToFork, _ => Task.FromResult(noted = log.LastSeq), Ct), saved);
        output.WriteLine($"its own before {before} MiB, after {OwnMiB(vm)} MiB, in {Mappings(vm)} mappings");
        Assert.True(before > 12 && OwnMiB(vm) < before - 12, $"{before} MiB were its own before, {OwnMiB(vm)} MiB are now.");

        // One alone finds the memory as well; nobody reads it from where it was saved.
        await using var alone = await RestoreAsync(saved, null, saved.StateName, siblings: 1);
        await using var fork = await RestoreAsync(saved, log.AsOf(noted), saved.StateName, siblings: 1);
        Assert.Equal(0, saved.Reads);
        Assert.True(OwnMiB(alone) < 20, $"{OwnMiB(alone)} MiB are the fork's own.");
        var then = log.AsOf(noted);
        then.GoOn(fork.Survivors.Single());
        await then.AtLeastAsync(then.Count + 20);
        then.RequireEveryLine();
        foreach (var (machine, name) in new[] { (vm, "parent"), (alone, "alone"), (fork, "fork") })
        {
            Assert.Equal("first True\n", (await CodeAsync(machine, "c", "print(x, sum() == was)")).Stdout);
            await CodeAsync(machine, "c", $"x = '{name}'; big[::4096] = bytes([{name.Length}]) * len(big[::4096]); was = sum()");
        }

        await log.AtLeastAsync(log.Count + 20);
        log.RequireEveryLine();

        // A second generation: of the parent by the layer that is at hand, of a fork by what was written down of it.
        foreach (var (machine, name) in new[] { (vm, "parent"), (fork, "fork") })
        {
            var second = new SavedInMemory { StateName = Guid.NewGuid().ToString("N") };
            Tell("to fork again", await machine.SaveAsync(second, SaveMode.ContinueToFork, _ => Task.CompletedTask, Ct), second);
            await using var copied = await (machine == vm ? RestoreAsync(second, null, second.StateName) : RestoreAsync(second));
            foreach (var copy in new[] { copied, machine })
            {
                Assert.Equal($"{name} True\n", (await CodeAsync(copy, "c", "print(x, sum() == was)")).Stdout);
            }
        }

        // And a pause, which writes down what lies in the layer.
        var paused = new SavedInMemory();
        await vm.SaveAsync(paused, SaveMode.StayStopped, _ => Task.CompletedTask, Ct);
        await vm.DisposeAsync();
        await using var resumed = await RestoreAsync(paused);
        Assert.Equal("parent True\n", (await CodeAsync(resumed, "c", "print(x, sum() == was)")).Stdout);
    }

    [Fact]
    public async Task A_machine_that_was_booted_is_saved_and_restored_without_a_golden_snapshot()
    {
        var saved = new SavedInMemory();
        var spec = fixture.Spec(memoryMiB: 320, diskMiB: 128);
        await using (var vm = await fixture.Backend.StartAsync(spec, Ct))
        {
            Assert.Equal("boot", vm.StartReport.Method);
            await ShellAsync(vm, "echo kept > $HOME/file; (while :; do sleep 1; done) & echo $! > /tmp/pid");
            Tell("booted", await vm.SaveAsync(saved, SaveMode.StayStopped, _ => Task.CompletedTask, Ct), saved);
            await vm.ContinueAsync(Ct);
            await vm.ContinueAsync(Ct);
            Assert.Equal("on\n", (await ShellAsync(vm, "echo on")).Stdout);
        }

        Assert.Null(saved.Facts.GoldenId);
        await using var again = await fixture.Backend.StartAsync(fixture.Spec(320, 128) with { Restore = new MachineRestore(saved, []) }, Ct);
        output.WriteLine($"restored in {again.StartReport.Duration.TotalMilliseconds:0} ms");
        Assert.Equal("kept\nalive\n", (await ShellAsync(again, "cat $HOME/file; kill -0 $(cat /tmp/pid) && echo alive")).Stdout);
        var second = new SavedInMemory();
        await again.SaveAsync(second, SaveMode.Continue, _ => Task.CompletedTask, Ct);
        Assert.Equal("kept\n", (await ShellAsync(again, "cat $HOME/file")).Stdout);
    }

    [Fact]
    public async Task Whatever_fails_the_machine_runs_on_and_nothing_half_restored_is_left()
    {
        await fixture.BuildGoldenAsync(Sizes);
        await using var vm = await fixture.Backend.StartAsync(Spec(), Ct);
        var log = await CountAsync(vm);
        await log.AtLeastAsync(5);
        foreach (var mode in Enum.GetValues<SaveMode>())
        {
            var failing = new SavedInMemory { StateName = Guid.NewGuid().ToString("N"), OnPage = n => n == 20 ? throw new IOException("the store is full") : Task.CompletedTask };
            var error = await Assert.ThrowsAsync<IsolationException>(() => vm.SaveAsync(failing, mode, _ => Task.CompletedTask, Ct));
            Assert.Contains("the store is full", error.Message, StringComparison.Ordinal);
            await Assert.ThrowsAsync<IsolationException>(() => vm.SaveAsync(new SavedInMemory { StateName = Guid.NewGuid().ToString("N") }, mode, _ => throw new InvalidDataException("no"), Ct));

            using var cancel = CancellationTokenSource.CreateLinkedTokenSource(Ct);
            var cancelled = new SavedInMemory { StateName = Guid.NewGuid().ToString("N"), OnPage = n => n == 20 ? cancel.CancelAsync() : Task.CompletedTask };
            await Assert.ThrowsAnyAsync<OperationCanceledException>(() => vm.SaveAsync(cancelled, mode, _ => Task.CompletedTask, cancel.Token));
            await log.AtLeastAsync(log.Count + 20);
            Assert.Equal("on\n", (await ShellAsync(vm, "echo on")).Stdout);
        }

        log.RequireEveryLine();
        var saved = new SavedInMemory();
        await vm.SaveAsync(saved, SaveMode.Continue, _ => Task.CompletedTask, Ct);

        // Of another machine; and a source that gives out in the middle.
        var foreign = saved.Facts with { Fingerprint = "0123456789abcdef" };
        Assert.Equal(RestoreFit.Ready, await fixture.Backend.FitAsync(fixture.Image, Sizes, saved.Facts, Ct));
        Assert.Equal(RestoreFit.Foreign, await fixture.Backend.FitAsync(fixture.Image, Sizes, foreign, Ct));
        Assert.Equal(RestoreFit.Foreign, await fixture.Backend.FitAsync(fixture.Image, Sizes with { DiskMiB = 181 }, saved.Facts, Ct));
        Assert.Equal(RestoreFit.NeedsGolden, await fixture.Backend.FitAsync(fixture.Image, Sizes, saved.Facts with { GoldenId = new string('a', 64) }, Ct));
        foreach (var (source, says) in new[]
        {
            (saved.With(foreign), "fingerprint"),
            (saved.With(saved.Facts with { GoldenId = new string('a', 64) }), "import it first"),
            (Failing(saved, 20), "the store is gone"),
            (Failing(saved, saved.Pages), "the store is gone"),
        })
        {
            var spec = Spec() with { Restore = new MachineRestore(source, []) };
            Directory.CreateDirectory(Path.GetDirectoryName(spec.DiskPath)!);
            await File.WriteAllTextAsync(spec.DiskPath, "old", Ct);
            var error = await Assert.ThrowsAsync<IsolationException>(() => fixture.Backend.StartAsync(spec, Ct));
            Assert.Contains(says, error.Message, StringComparison.Ordinal);
            Assert.False(Directory.Exists(Path.Combine(fixture.Options.RuntimeRoot, fixture.Options.HostId, "vm-" + spec.Owner.VmId)));
            Assert.Equal("old", await File.ReadAllTextAsync(spec.DiskPath, Ct));
            Assert.False(File.Exists(spec.DiskPath + ".partial"));
        }
    }

    [Fact]
    public async Task A_golden_snapshot_travels_to_another_host_and_what_differs_from_it_is_restored_there()
    {
        var golden = await fixture.BuildGoldenAsync(Sizes);
        var saved = new SavedInMemory();
        await using (var vm = await fixture.Backend.StartAsync(Spec(), Ct))
        {
            await ShellAsync(vm, "echo far > $HOME/file");
            await vm.SaveAsync(saved, SaveMode.StayStopped, _ => Task.CompletedTask, Ct);
        }

        // Beside the image, so that its files can be linked.
        var image = $"{fixture.Image}-{Guid.NewGuid().ToString("N")[..8]}";
        Directory.CreateDirectory(image);
        try
        {
            using var copying = System.Diagnostics.Process.Start("cp", ["-l", .. Directory.GetFiles(fixture.Image), image]);
            await copying.WaitForExitAsync(Ct);
            Assert.Equal(0, copying.ExitCode);
            var travelling = new SavedInMemory();
            await fixture.Backend.ExportGoldenAsync(fixture.Image, Sizes, golden.Id, travelling, Ct);
            Assert.Equal(RestoreFit.NeedsGolden, await fixture.Backend.FitAsync(image, Sizes, saved.Facts, Ct));
            var wrong = await Assert.ThrowsAsync<IsolationException>(() => fixture.Backend.ImportGoldenAsync(image, Sizes, new string('b', 64), travelling, Ct));
            Assert.Contains("damaged", wrong.Message, StringComparison.Ordinal);
            await fixture.Backend.ImportGoldenAsync(image, Sizes, golden.Id, travelling, Ct);
            await fixture.Backend.ImportGoldenAsync(image, Sizes, golden.Id, travelling, Ct);

            Assert.Equal([$"{golden.Fingerprint}-{golden.Id}"], Directory.GetDirectories(Path.Combine(image, "golden")).Select(d => Path.GetFileName(d)!));
            Assert.Equal(RestoreFit.Ready, await fixture.Backend.FitAsync(image, Sizes, saved.Facts, Ct));
            Assert.Null(await fixture.Backend.FindGoldenAsync(image, Sizes, Ct));
            await using var vm = await fixture.Backend.StartAsync(Spec() with { ImageDirectory = image, Restore = new MachineRestore(saved, []) }, Ct);
            Assert.Equal("far\n", (await ShellAsync(vm, "cat $HOME/file")).Stdout);
        }
        finally
        {
            Directory.Delete(image, recursive: true);
        }
    }

    private MicroVmSpec Spec() => fixture.Spec(Sizes.MemoryMiB, Sizes.DiskMiB);

    private Task<IMicroVm> RestoreAsync(SavedInMemory saved, Log? log = null, string? state = null, int siblings = 2) =>
        fixture.Backend.StartAsync(Spec() with { Restore = new MachineRestore(saved, log is null ? [] : [new RestoredExecution(Log.Id, log.LastSeq)], state, siblings) }, Ct);

    private static SavedInMemory Failing(SavedInMemory saved, int page)
    {
        var failing = saved.With(saved.Facts);
        failing.OnPage = n => n == page ? throw new IOException("the store is gone") : Task.CompletedTask;
        return failing;
    }

    private static ProcessMemory MemoryOf(IMicroVm vm) => ProcessMemory.Open(((QemuMicroVm)vm).ProcessId, (long)Sizes.MemoryMiB << 20);

    /// <summary>Memory of the guest that no other machine has.</summary>
    private static long OwnMiB(IMicroVm vm)
    {
        using var memory = MemoryOf(vm);
        return memory.OwnPages().Sum(r => r.Count) >> 8;
    }

    private static int Mappings(IMicroVm vm) => File.ReadLines($"/proc/{((QemuMicroVm)vm).ProcessId}/maps").Count();

    private void Tell(string what, SaveReport report, SavedInMemory saved) => output.WriteLine(
        $"{what}: stopped {report.Stopped.TotalMilliseconds:0.0} ms, memory {report.MemoryBytes / 1e6:0.0} MB, disk {report.DiskBytes / 1e6:0.0} MB, devices {saved.DevicesBytes / 1e3:0} KB");

    private static Task MakeContextAsync(IMicroVm vm, string id) =>
        vm.Guest.RequestAsync(new Request { CreateContext = new CreateContext { ContextId = id, Language = "python" } }, Ct);

    /// <summary>A command that counts, a line every few milliseconds.</summary>
    private static async Task<Log> CountAsync(IMicroVm vm)
    {
        var log = new Log();
        log.GoOn(await vm.Guest.StartExecutionAsync(
            new StartExecution { ExecutionId = Log.Id, Command = new Command { Argv = { "/usr/bin/python3", "-uc", "import time\nn = 0\nwhile True:\n n += 1\n print(n)\n time.sleep(0.005)" } } }, Ct));
        return log;
    }

    /// <summary>What a session's log has of one execution.</summary>
    private sealed class Log
    {
        public const string Id = "counting";
        private readonly Lock _lock = new();
        private readonly List<(ulong Seq, string Text)> _said = [];

        public Task Reading { get; private set; } = Task.CompletedTask;

        public Exited? Exited { get; private set; }

        public ulong LastSeq
        {
            get
            {
                lock (_lock)
                {
                    return _said.Count > 0 ? _said[^1].Seq : 0;
                }
            }
        }

        public int Count
        {
            get
            {
                lock (_lock)
                {
                    return Text().Count(c => c == '\n');
                }
            }
        }

        public void GoOn(IGuestExecution execution) => Reading = Task.Run(async () =>
        {
            try
            {
                await foreach (var e in execution.Events)
                {
                    lock (_lock)
                    {
                        Assert.Equal(LastSeq + 1, e.Seq);
                        _said.Add((e.Seq, e.Output?.Data.ToStringUtf8() ?? ""));
                        Exited = e.Exited;
                    }

                    await execution.AcknowledgeAsync(e.Seq, Ct);
                }
            }
            catch (GuestUnavailableException)
            {
                // The machine is gone.
            }
        });

        public Log AsOf(ulong seq)
        {
            var log = new Log();
            lock (_lock)
            {
                log._said.AddRange(_said.Where(s => s.Seq <= seq));
            }

            return log;
        }

        public async Task AtLeastAsync(int count)
        {
            for (var waited = 0; Count < count; waited++)
            {
                Assert.True(waited < 6000 && !Reading.IsFaulted, $"{Count} of {count} lines came. {Reading.Exception}");
                await Task.Delay(10, Ct);
            }
        }

        public void RequireEveryLine()
        {
            var lines = Text().Split('\n');
            Assert.Equal(Enumerable.Range(1, lines.Length - 1).Select(n => n.ToString(CultureInfo.InvariantCulture)), lines[..^1]);
        }

        private string Text()
        {
            var text = new StringBuilder();
            lock (_lock)
            {
                foreach (var (_, said) in _said)
                {
                    text.Append(said);
                }
            }

            return text.ToString();
        }
    }
}
