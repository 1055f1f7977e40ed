using System.Diagnostics;
using Microsoft.Extensions.Logging.Abstractions;
using Sandbox.Guest.Protocol;
using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Guest;
using Sandbox.Isolation.Images;
using Sandbox.Isolation.TestSupport;
using Sandbox.Isolation.Wasm.Tests.Support;
using Xunit;
using static Sandbox.Isolation.TestSupport.GuestRuns;
using static Sandbox.Isolation.Wasm.Tests.Support.WasmFixture;

namespace Sandbox.Isolation.Wasm.Tests;

public sealed class MachineTests(WasmFixture host)
{
    [Fact]
    public async Task The_verdict_names_the_runtime()
    {
        var verdict = await host.Backend.ProbeAsync(Token);

        Assert.True(verdict.Usable, verdict.Reason);
        Assert.Equal("Wasmtime 50.0.1", verdict.Version);
        Assert.True(host.Backend.Capabilities is { Boundary: TrustBoundary.WebAssembly, Processes: false, DiskSnapshot: true, MemorySnapshot: false, TakesUntrusted: true });
    }

    [Fact]
    public async Task A_worker_is_confined()
    {
        await using var vm = await host.StartAsync();
        var pid = Descendant(host.Backend.WorkerProcessId!.Value);
        var status = await File.ReadAllLinesAsync($"/proc/{pid}/status", Token);

        Assert.SkipUnless(Environment.IsPrivilegedProcess, "Only root can confine.");
        Assert.Contains("NoNewPrivs:\t1", status);
        Assert.Contains("CapEff:\t0000000000000000", status);
        Assert.Contains("CapBnd:\t0000000000000000", status);
        Assert.Contains("Seccomp:\t2", status);
        Assert.DoesNotContain(status, l => l.StartsWith("Uid:\t0", StringComparison.Ordinal));
        Assert.False(Directory.Exists($"/proc/{pid}/root/root"));
        Assert.NotEqual(new global::System.IO.FileInfo("/proc/self/ns/net").LinkTarget, new global::System.IO.FileInfo($"/proc/{pid}/ns/net").LinkTarget);
        Assert.NotEqual(new global::System.IO.FileInfo("/proc/self/ns/pid").LinkTarget, new global::System.IO.FileInfo($"/proc/{pid}/ns/pid").LinkTarget);
    }

    [Fact]
    public async Task A_worker_that_dies_takes_its_machines_and_the_next_start_has_another()
    {
        var options = host.NewOptions();
        await using var backend = new WasmBackend(options, NullLogger<WasmBackend>.Instance);
        var spec = host.Spec();
        await using var vm = await backend.StartAsync(spec, Token);
        await WriteAsync(vm, "file", "kept");
        var execution = await vm.Guest.StartExecutionAsync(new StartExecution { ExecutionId = "e", Command = new Command { Argv = { "python", "-c", "import time\ntime.sleep(100)" } } }, Token);
        var first = backend.WorkerProcessId;

        await ContextAsync(vm, "python");
        await CodeAsync(vm, "c", "open('written', 'w').write('by code')");
        Process.GetProcessById(Descendant(first!.Value)).Kill();
        var exit = await vm.Exited.WaitAsync(TimeSpan.FromSeconds(10), Token);
        await vm.DisposeAsync();
        await using var next = await backend.StartAsync(spec, Token);

        Assert.False(exit.Expected);
        Assert.Contains("worker", exit.Reason, StringComparison.Ordinal);
        await Assert.ThrowsAsync<GuestUnavailableException>(async () =>
        {
            await foreach (var _ in execution.Events)
            {
            }
        });
        Assert.NotEqual(first, backend.WorkerProcessId);
        Assert.Equal(("kept", "by code"), (await ReadTextAsync(next, "file"), await ReadTextAsync(next, "written")));
        await next.DisposeAsync();
        await backend.DisposeAsync();
        Assert.Empty(Directory.GetFileSystemEntries(Path.Combine(Runtime(options), "wasm")));
        Directory.Delete(Runtime(options), recursive: true);
    }

    [Fact]
    public async Task What_a_crash_leaves_is_reaped()
    {
        var options = host.NewOptions();
        await using var crashed = new WasmBackend(options, NullLogger<WasmBackend>.Instance);
        var vm = await crashed.StartAsync(host.Spec(), Token);
        var worker = crashed.WorkerProcessId!.Value;
        await using var successor = new WasmBackend(options, NullLogger<WasmBackend>.Instance);

        // A successor knows nothing of the objects of a predecessor: only the files, the cgroup and the process.
        var kept = await successor.ReapAsync(o => o == vm.Owner, Token);
        var reaped = await successor.ReapAsync(_ => false, Token);

        Assert.DoesNotContain(kept, r => r.Owner == vm.Owner);
        Assert.Contains(kept.Concat(reaped), r => r.What.StartsWith("worker", StringComparison.Ordinal));
        Assert.Contains(reaped, r => r.Owner == vm.Owner);
        await Task.Delay(200, Token);
        Assert.False(Directory.Exists($"/proc/{worker}") && !await IsZombieAsync(worker));
        Assert.True((await vm.Exited.WaitAsync(TimeSpan.FromSeconds(10), Token)) is { Expected: false });
        await vm.DisposeAsync();
        await crashed.DisposeAsync();
        Assert.Empty(Directory.GetFileSystemEntries(Path.Combine(Runtime(options), "wasm")));
        Directory.Delete(Runtime(options), recursive: true);
    }

    [Fact]
    public async Task A_saved_machine_comes_back_with_its_files_and_without_its_contexts()
    {
        var saved = new SavedInMemory();
        await using var vm = await host.StartAsync();
        await ContextAsync(vm, "python");
        await CodeAsync(vm, "c", "import os\nfor i in range(50): open('f%d' % i, 'w').write(str(i) * 1000)\nopen('big', 'wb').write(os.urandom(3_000_000))\nfor i in range(40): os.unlink('f%d' % i)");
        var big = await ReadAsync(vm, "big");
        var stood = false;

        var report = await vm.SaveAsync(saved, SaveMode.Continue, _ => { stood = true; return Task.CompletedTask; }, Token);
        var goesOn = await CodeAsync(vm, "c", "i");

        Assert.True(stood);
        Assert.Equal((0L, 0L), (report.MemoryBytes, saved.Facts.MemoryBytes));
        Assert.InRange(report.DiskBytes, 3_000_000, 6_000_000);
        Assert.Equal("39", goesOn.Results.Single().Data["text/plain"].ToStringUtf8());
        Assert.Equal(RestoreFit.Ready, await host.Backend.FitAsync(host.Image, new TemplateSizes { MemoryMiB = 256, DiskMiB = 128 }, saved.Facts, Token));
        Assert.Equal(RestoreFit.Foreign, await host.Backend.FitAsync(host.Image, new TemplateSizes { MemoryMiB = 256, DiskMiB = 256 }, saved.Facts, Token));
        await CodeAsync(vm, "c", "os.unlink('big')");

        // Two of them: a fork.
        await using var one = await host.Backend.StartAsync(host.Spec(restore: new MachineRestore(saved, [new RestoredExecution("lost", 3)])), Token);
        await using var two = await host.Backend.StartAsync(host.Spec(restore: new MachineRestore(saved, [])), Token);
        await WriteAsync(two, "f45", "other");

        Assert.Equal("restore", one.StartReport.Method);
        Assert.Equal(big, await ReadAsync(one, "big"));
        Assert.Equal(2000, (await ReadAsync(one, "f45")).Length);
        await Assert.ThrowsAsync<GuestException>(() => ReadAsync(one, "f1"));
        Assert.Empty((await one.Guest.RequestAsync(new Request { ListContexts = new ListContexts() }, Token)).Contexts.Contexts);
        Assert.Equal("lost", one.Survivors.Single().ExecutionId);
        Assert.Throws<GuestUnavailableException>(() => one.Survivors[0].Events);
    }

    [Fact]
    public async Task A_machine_that_stays_stopped_says_nothing_until_it_goes_on()
    {
        await using var vm = await host.StartAsync();
        var execution = await vm.Guest.StartExecutionAsync(
            new StartExecution { ExecutionId = "e", Command = new Command { Argv = { "python", "-u", "-c", "import time\nfor i in range(100000):\n    print(i)\n    time.sleep(0.01)" } } }, Token);
        var lines = 0;
        var reading = Task.Run(
            async () =>
            {
                await foreach (var e in execution.Events)
                {
                    Interlocked.Increment(ref lines);
                    await execution.AcknowledgeAsync(e.Seq, Token);
                }
            },
            Token);
        while (Volatile.Read(ref lines) == 0)
        {
            await Task.Delay(20, Token);
        }

        await vm.SaveAsync(new SavedInMemory(), SaveMode.StayStopped, _ => Task.CompletedTask, Token);
        await Task.Delay(100, Token);
        var before = Volatile.Read(ref lines);
        await Task.Delay(400, Token);
        Assert.Equal(before, Volatile.Read(ref lines));
        await Assert.ThrowsAsync<IsolationException>(() => vm.SaveAsync(new SavedInMemory(), SaveMode.Continue, _ => Task.CompletedTask, Token));

        await vm.ContinueAsync(Token);
        for (var tries = 0; tries < 100 && Volatile.Read(ref lines) == before; tries++)
        {
            await Task.Delay(100, Token);
        }

        Assert.True(Volatile.Read(ref lines) > before);
        await execution.SignalAsync(9, Token);
        await reading;
    }

    [Fact]
    public async Task A_save_that_fails_leaves_the_machine_running()
    {
        await using var vm = await host.StartAsync();
        await ContextAsync(vm, "javascript");

        await Assert.ThrowsAsync<InvalidOperationException>(() => vm.SaveAsync(new SavedInMemory(), SaveMode.StayStopped, _ => throw new InvalidOperationException("not now"), Token));

        Assert.Equal(0, (await CodeAsync(vm, "c", "1")).Exited.ExitCode);
    }

    [Fact]
    public async Task Wrong_orders_are_refused_and_leave_nothing()
    {
        var spec = host.Spec();
        var odd = host.Spec() with { MemoryMiB = 1 };
        var elsewhere = host.Spec() with { ImageDirectory = Directory.CreateTempSubdirectory("sandbox-wasm-image-").FullName };
        new TemplateImage { Template = "wasm", Version = "0", Kind = "wasm", BuiltAt = DateTimeOffset.UtcNow, KernelRelease = "none" }.Save(elsewhere.ImageDirectory);
        await using var vm = await host.Backend.StartAsync(spec, Token);

        Assert.Contains("already", (await Assert.ThrowsAsync<IsolationException>(() => host.Backend.StartAsync(spec, Token))).Message, StringComparison.Ordinal);
        Assert.Contains("out of range", (await Assert.ThrowsAsync<IsolationException>(() => host.Backend.StartAsync(odd, Token))).Message, StringComparison.Ordinal);
        Assert.Contains("not below", (await Assert.ThrowsAsync<IsolationException>(() => host.Backend.StartAsync(elsewhere, Token))).Message, StringComparison.Ordinal);
        Assert.False(File.Exists(elsewhere.DiskPath));
        Assert.False(Directory.Exists(Path.Combine(Runtime(host.Options), "wasm", "vm-" + elsewhere.Owner.VmId)));
        Directory.Delete(elsewhere.ImageDirectory, recursive: true);
    }

    [Fact]
    public async Task Metrics_tell_of_the_machine()
    {
        await using var vm = await host.StartAsync(memoryMiB: 200, diskMiB: 100);
        await ContextAsync(vm, "python");

        var metrics = (await vm.Guest.RequestAsync(new Request { Metrics = new GetMetrics() }, Token)).Metrics;

        Assert.Equal((200UL << 20, 100UL << 20, 1U), (metrics.MemoryTotal, metrics.DiskTotal, metrics.Vcpus));
        Assert.InRange(metrics.MemoryAvailable, 100UL << 20, 195UL << 20);
        Assert.InRange(metrics.DiskFree, 95UL << 20, 100UL << 20);
    }

    /// <summary>The worker itself, below the process that was started.</summary>
    private static int Descendant(int pid)
    {
        while (File.ReadAllText($"/proc/{pid}/task/{pid}/children").Split(' ', StringSplitOptions.RemoveEmptyEntries) is [var child, ..])
        {
            pid = int.Parse(child, System.Globalization.CultureInfo.InvariantCulture);
        }

        return pid;
    }

    private static async Task<bool> IsZombieAsync(int pid)
    {
        try
        {
            return (await File.ReadAllTextAsync($"/proc/{pid}/stat", Token)).Split(") ")[^1].StartsWith('Z');
        }
        catch (IOException)
        {
            return true;
        }
    }
}
