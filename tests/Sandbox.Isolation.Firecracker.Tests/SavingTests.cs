using Sandbox.Guest.Protocol;
using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Firecracker.Machine;
using Sandbox.Isolation.Firecracker.Tests.Fixture;
using Sandbox.Isolation.Guest;
using Sandbox.Isolation.Images;
using Sandbox.Isolation.TestSupport;
using Xunit;

namespace Sandbox.Isolation.Firecracker.Tests;

/// <summary>
/// Golden snapshots, clones, saved and restored machines. The double knows what every page of memory and every block of the disk was when it was saved, and loads nothing that is not exactly so: a restore that passes
/// it was put together rightly.
/// </summary>
public sealed class SavingTests(DoubleFixture fixture) : IClassFixture<DoubleFixture>
{
    private static CancellationToken Ct => TestContext.Current.CancellationToken;

    [Fact]
    public async Task A_clone_is_loaded_from_the_golden_snapshot_and_not_booted()
    {
        var golden = await BuildAsync();
        Assert.Equal(golden, await fixture.Backend.FindGoldenAsync(fixture.Image, DoubleFixture.Sizes, Ct));
        var spec = fixture.Spec();
        await using (var vm = await fixture.Backend.StartAsync(spec, Ct))
        {
            Assert.Equal("clone", vm.StartReport.Method);
            Assert.Equal(["PUT /snapshot/load", "PATCH /vm"], fixture.CallsOf(spec.Owner.VmId));
            Assert.Equal("hello\n", (await GuestRuns.ShellAsync(vm, "echo hello", cancellationToken: Ct)).Stdout);
        }

        fixture.RequireNothingLeft();
    }

    [Fact]
    public async Task A_clone_that_does_not_load_is_booted_instead()
    {
        await BuildAsync();
        fixture.Break("refuse PUT /snapshot/load");
        var spec = fixture.Spec();
        await using var vm = await fixture.Backend.StartAsync(spec, Ct);

        Assert.Equal("boot", vm.StartReport.Method);
    }

    [Fact]
    public async Task A_machine_of_the_pool_is_paused_until_it_is_claimed()
    {
        await BuildAsync();
        var spec = fixture.Spec();
        var vm = Assert.IsType<FirecrackerMicroVm>(await fixture.Backend.PrepareAsync(spec, Ct));
        await using (vm)
        {
            var disk = Path.Combine(fixture.Folder, "disks", "claimed.img");
            await vm.ClaimAsync(new MicroVmClaim("ses_claimed", 7, "claimed", disk), Ct);

            Assert.Equal("pool", vm.StartReport.Method);
            Assert.Equal(("ses_claimed", 7L), (vm.Owner.SessionId, vm.Owner.Generation));
            Assert.True(File.Exists(disk) && !File.Exists(spec.DiskPath));
            Assert.Equal("claimed\n", (await GuestRuns.ShellAsync(vm, "echo claimed", cancellationToken: Ct)).Stdout);
        }

        Assert.Equal(["PUT /snapshot/load", "PATCH /vm", "PATCH /vm", "PATCH /vm"], fixture.CallsOf(spec.Owner.VmId));
        fixture.RequireNothingLeft();
    }

    [Theory]
    [InlineData(true, LoadedMemory.File)]
    [InlineData(true, LoadedMemory.Userfault)]
    [InlineData(false, LoadedMemory.File)]
    public async Task A_saved_machine_comes_back_with_what_ran_in_it(bool cloned, LoadedMemory how)
    {
        fixture.Break();
        var backend = cloned ? fixture.Make(fixture.Options with { LoadedMemory = how }) : fixture.Backend;
        if (cloned)
        {
            await BuildAsync();
        }

        var spec = Sized(cloned);
        var saved = new SavedInMemory();
        ulong seen;
        await using (var vm = await backend.StartAsync(spec, Ct))
        {
            Assert.Equal(cloned ? "clone" : "boot", vm.StartReport.Method);
            var counting = await vm.Guest.StartExecutionAsync(Counting(), Ct);
            seen = await ReadAsync(counting, 5);
            await vm.SaveAsync(saved, SaveMode.StayStopped, _ => Task.CompletedTask, Ct);
        }

        fixture.RequireNothingLeft();
        Assert.Equal(cloned, saved.Facts.GoldenId is not null);
        Assert.Equal(RestoreFit.Ready, await backend.FitAsync(fixture.Image, SizesOf(spec), saved.Facts, Ct));
        var again = spec with { Owner = spec.Owner with { VmId = spec.Owner.VmId + "-again" }, Restore = new MachineRestore(saved, [new RestoredExecution("counting", seen)]) };
        await using (var vm = (FirecrackerMicroVm)await backend.StartAsync(again, Ct))
        {
            Assert.Equal("restore", vm.StartReport.Method);
            Assert.Equal(how == LoadedMemory.Userfault, vm.PagesServed > 0);
            var survivor = Assert.Single(vm.Survivors);
            Assert.True(await ReadAsync(survivor, 5, after: seen) > seen);
            Assert.Equal("back\n", (await GuestRuns.ShellAsync(vm, "echo back", cancellationToken: Ct)).Stdout);
        }

        fixture.RequireNothingLeft();
        Assert.False(File.Exists(spec.DiskPath + ".partial"));
    }

    [Fact]
    public async Task A_machine_goes_on_while_it_is_saved_and_each_save_can_be_restored_and_saved_again()
    {
        await BuildAsync();
        var spec = fixture.Spec();
        var (first, second, third) = (new SavedInMemory(), new SavedInMemory(), new SavedInMemory());
        await using (var vm = await fixture.Backend.StartAsync(spec, Ct))
        {
            var counting = await vm.Guest.StartExecutionAsync(Counting(), Ct);
            var seen = await ReadAsync(counting, 3);
            await vm.SaveAsync(first, SaveMode.Continue, _ => Task.CompletedTask, Ct);
            seen = await ReadAsync(counting, 3, after: seen);
            await vm.SaveAsync(second, SaveMode.Continue, _ => Task.CompletedTask, Ct);
            await ReadAsync(counting, 3, after: seen);
            Assert.Equal("on\n", (await GuestRuns.ShellAsync(vm, "echo on", cancellationToken: Ct)).Stdout);
        }

        // Only the first began with a memory that is known.
        Assert.Equal(["Diff", "Full"], TypesOf(spec));
        var current = spec;
        foreach (var (saved, next) in ((SavedInMemory, SavedInMemory?)[])[(first, null), (second, third), (third, null)])
        {
            current = current with { Owner = current.Owner with { VmId = current.Owner.VmId + "r" }, Restore = new MachineRestore(saved, []) };
            await using var vm = await fixture.Backend.StartAsync(current, Ct);
            if (next is not null)
            {
                await vm.SaveAsync(next, SaveMode.StayStopped, _ => Task.CompletedTask, Ct);
                Assert.Equal(["Diff"], TypesOf(current));
            }
        }

        fixture.RequireNothingLeft();
    }

    [Fact]
    public async Task Several_machines_restored_from_one_state_share_one_memory_file()
    {
        await BuildAsync();
        var spec = fixture.Spec();
        var saved = new SavedInMemory();
        await using (var vm = await fixture.Backend.StartAsync(spec, Ct))
        {
            await vm.SaveAsync(saved, SaveMode.StayStopped, _ => Task.CompletedTask, Ct);
        }

        var (a, b) = (fixture.Spec() with { Restore = new MachineRestore(saved, [], "key", 2) }, fixture.Spec() with { Restore = new MachineRestore(saved, [], "key", 2) });
        await using (await fixture.Backend.StartAsync(a, Ct))
        {
            await using (await fixture.Backend.StartAsync(b, Ct))
            {
                Assert.Single(Directory.GetFiles(fixture.WorkRoot));
                Assert.Equal(1, saved.Reads);
            }

            Assert.Single(Directory.GetFiles(fixture.WorkRoot));
        }

        fixture.RequireNothingLeft();
    }

    [Fact]
    public async Task A_save_that_fails_leaves_the_machine_running()
    {
        await BuildAsync();
        var spec = fixture.Spec();
        await using var vm = await fixture.Backend.StartAsync(spec, Ct);
        var sink = new SavedInMemory { OnPage = n => n == 3 ? throw new IOException("the store is gone") : Task.CompletedTask };

        var e = await Assert.ThrowsAsync<IsolationException>(() => vm.SaveAsync(sink, SaveMode.StayStopped, _ => Task.CompletedTask, Ct));

        Assert.Contains("the store is gone", e.Message, StringComparison.Ordinal);
        Assert.Equal("on\n", (await GuestRuns.ShellAsync(vm, "echo on", cancellationToken: Ct)).Stdout);
        await vm.SaveAsync(new SavedInMemory(), SaveMode.StayStopped, _ => Task.CompletedTask, Ct);
        await Assert.ThrowsAsync<IsolationException>(() => vm.SaveAsync(new SavedInMemory(), SaveMode.Continue, _ => Task.CompletedTask, Ct));
        await vm.ContinueAsync(Ct);
        await vm.ContinueAsync(Ct);
        Assert.Equal("still on\n", (await GuestRuns.ShellAsync(vm, "echo still on", cancellationToken: Ct)).Stdout);
    }

    [Fact]
    public async Task A_snapshot_that_Firecracker_refuses_leaves_the_machine_running()
    {
        await BuildAsync();
        fixture.Break("no-room");
        await using var vm = await fixture.Backend.StartAsync(fixture.Spec(), Ct);

        var e = await Assert.ThrowsAsync<IsolationException>(() => vm.SaveAsync(new SavedInMemory(), SaveMode.Continue, _ => Task.CompletedTask, Ct));

        Assert.Contains("PUT /snapshot/create (400): Cannot write the memory file: No space left", e.Message, StringComparison.Ordinal);
        Assert.Equal("on\n", (await GuestRuns.ShellAsync(vm, "echo on", cancellationToken: Ct)).Stdout);
    }

    [Fact]
    public async Task A_machine_whose_bytes_are_wrong_is_not_restored_and_the_disk_that_was_there_stays()
    {
        await BuildAsync();
        var spec = fixture.Spec();
        var saved = new SavedInMemory();
        await using (var vm = await fixture.Backend.StartAsync(spec, Ct))
        {
            await vm.SaveAsync(saved, SaveMode.StayStopped, _ => Task.CompletedTask, Ct);
        }

        var before = File.GetLastWriteTimeUtc(spec.DiskPath);
        foreach (var wrong in (Action<Damaged>[])[d => d.Devices = true, d => d.Page = true, d => d.Block = true])
        {
            var damaged = new Damaged(saved);
            wrong(damaged);
            var e = await Assert.ThrowsAsync<IsolationException>(() => fixture.Backend.StartAsync(spec with { Restore = new MachineRestore(damaged, []) }, Ct));
            Assert.Contains("PUT /snapshot/load", e.Message, StringComparison.Ordinal);
            fixture.RequireNothingLeft();
        }

        Assert.Equal(before, File.GetLastWriteTimeUtc(spec.DiskPath));
        var foreign = saved.With(saved.Facts with { Fingerprint = "0000000000000000" });
        Assert.Equal(RestoreFit.Foreign, await fixture.Backend.FitAsync(fixture.Image, DoubleFixture.Sizes, foreign.Facts, Ct));
        await Assert.ThrowsAsync<IsolationException>(() => fixture.Backend.StartAsync(spec with { Restore = new MachineRestore(foreign, []) }, Ct));
    }

    [Fact]
    public async Task A_machine_whose_memory_cannot_be_served_is_ended_and_does_not_hang()
    {
        await BuildAsync();
        var spec = fixture.Spec();
        var saved = new SavedInMemory();
        await using (var vm = await fixture.Backend.StartAsync(spec, Ct))
        {
            await vm.SaveAsync(saved, SaveMode.StayStopped, _ => Task.CompletedTask, Ct);
        }

        var backend = fixture.Make(fixture.Options with { LoadedMemory = LoadedMemory.Userfault });
        await backend.ProbeAsync(Ct);
        fixture.Break("bad-pager");
        var e = await Assert.ThrowsAsync<IsolationException>(() => backend.StartAsync(spec with { Restore = new MachineRestore(saved, []) }, Ct));

        Assert.Contains("its memory could not be served: The regions of the memory do not follow one another", e.Message, StringComparison.Ordinal);
        fixture.RequireNothingLeft();
    }

    [Fact]
    public async Task A_golden_snapshot_travels_to_another_host_and_what_differs_from_it_is_restored_there()
    {
        var golden = await BuildAsync();
        var spec = fixture.Spec();
        var (saved, travelling) = (new SavedInMemory(), new SavedInMemory());
        await using (var vm = await fixture.Backend.StartAsync(spec, Ct))
        {
            await vm.SaveAsync(saved, SaveMode.StayStopped, _ => Task.CompletedTask, Ct);
        }

        var image = Path.Combine(fixture.Folder, "elsewhere");
        Directory.CreateDirectory(image);
        foreach (var file in Directory.GetFiles(fixture.Image))
        {
            File.Copy(file, Path.Combine(image, Path.GetFileName(file)));
        }

        await fixture.Backend.ExportGoldenAsync(fixture.Image, DoubleFixture.Sizes, golden.Id, travelling, Ct);
        Assert.Equal(RestoreFit.NeedsGolden, await fixture.Backend.FitAsync(image, DoubleFixture.Sizes, saved.Facts, Ct));
        await Assert.ThrowsAsync<IsolationException>(() => fixture.Backend.ImportGoldenAsync(image, DoubleFixture.Sizes, new string('b', 64), travelling, Ct));
        await fixture.Backend.ImportGoldenAsync(image, DoubleFixture.Sizes, golden.Id, travelling, Ct);
        Assert.Equal(RestoreFit.Ready, await fixture.Backend.FitAsync(image, DoubleFixture.Sizes, saved.Facts, Ct));
        await using var there = await fixture.Backend.StartAsync(spec with { ImageDirectory = image, Restore = new MachineRestore(saved, []) }, Ct);
        Assert.Equal("there\n", (await GuestRuns.ShellAsync(there, "echo there", cancellationToken: Ct)).Stdout);
    }

    private Task<GoldenSnapshot> BuildAsync()
    {
        fixture.Break();
        return fixture.Backend.BuildGoldenAsync(fixture.Image, DoubleFixture.Sizes, Ct);
    }

    /// <summary>Sizes with a golden snapshot, or without.</summary>
    private MicroVmSpec Sized(bool cloned) => cloned ? fixture.Spec() : fixture.Spec() with { DiskMiB = 72 };

    private static TemplateSizes SizesOf(MicroVmSpec spec) => new() { Vcpus = spec.Vcpus, MemoryMiB = spec.MemoryMiB, DiskMiB = spec.DiskMiB };

    private IEnumerable<string> TypesOf(MicroVmSpec spec) => fixture.LogOf(spec.Owner.VmId)
        .Where(e => e.TryGetProperty("Path", out var p) && p.GetString() == "/snapshot/create").Select(e => e.GetProperty("Body").GetProperty("snapshot_type").GetString()!);

    private static StartExecution Counting() => new()
    {
        ExecutionId = "counting",
        Command = new Command { Argv = { "/bin/sh", "-c", "n=0; while true; do n=$((n+1)); echo $n; sleep 0.01; done" } },
    };

    /// <summary>Reads some events, and acknowledges them. Returns the number of the last one.</summary>
    private static async Task<ulong> ReadAsync(IGuestExecution execution, int events, ulong after = 0)
    {
        var last = after;
        await foreach (var e in execution.Events.WithCancellation(Ct))
        {
            Assert.Equal(last + 1, e.Seq);
            last = e.Seq;
            await execution.AcknowledgeAsync(e.Seq, Ct);
            if (--events == 0)
            {
                break;
            }
        }

        return last;
    }
}
