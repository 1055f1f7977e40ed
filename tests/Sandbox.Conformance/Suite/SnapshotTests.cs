using Sandbox.Conformance.Backends;
using Sandbox.Guest.Protocol;
using Sandbox.Isolation.Backends;
using Sandbox.Isolation.TestSupport;
using Xunit;

namespace Sandbox.Conformance.Suite;

/// <summary>Saving and bringing back, as far as the backend declares it; what it does not declare, it refuses.</summary>
public sealed class SnapshotTests(Subjects subjects) : ConformanceTest(subjects)
{
    [Theory, ClassData(typeof(Matrix))]
    public async Task A_saved_machine_comes_back_with_what_its_backend_keeps(string backend)
    {
        var subject = await SubjectAsync(backend);
        var saved = new SavedInMemory();
        string context;
        await using (var vm = await subject.StartAsync(Ct))
        {
            context = await Subject.ContextAsync(vm, "javascript", Ct);
            await CodeAsync(vm, context, "var kept = 41");
            await WriteAsync(vm, "kept", "file"u8.ToArray());
            if (!subject.Can.DiskSnapshot)
            {
                await Assert.ThrowsAsync<NotSupportedException>(() => vm.SaveAsync(saved, SaveMode.StayStopped, _ => Task.CompletedTask, Ct));
                Passed(subject);
                return;
            }

            var called = 0;
            var report = await vm.SaveAsync(saved, SaveMode.StayStopped, _ => Task.FromResult(called++), Ct);
            Assert.Equal(1, called);
            Assert.Equal(backend, saved.Facts.Backend);
            Assert.Equal(subject.Can.MemorySnapshot, saved.Facts.MemoryBytes > 0);
            Assert.True(report.DiskBytes > 0);
        }

        Assert.Equal(RestoreFit.Ready, await subject.Backend.FitAsync(subject.Image, subject.Sizes, saved.Facts, Ct));
        Assert.Equal(RestoreFit.Foreign, await subject.Backend.FitAsync(subject.Image, subject.Sizes, saved.Facts with { Backend = "another" }, Ct));
        Assert.Equal(RestoreFit.Foreign, await subject.Backend.FitAsync(subject.Image, subject.Sizes, saved.Facts with { Fingerprint = "another" }, Ct));
        await using var again = await RestoreAsync(subject, saved);
        Assert.Equal("restore", again.StartReport.Method);
        Assert.Equal("file"u8.ToArray(), await ReadAsync(again, "kept"));
        if (subject.Can.MemorySnapshot)
        {
            Assert.Equal("42\n", (await CodeAsync(again, context, "console.log(kept + 1)")).Stdout);
        }

        Passed(subject);
    }

    [Theory, ClassData(typeof(Matrix))]
    public async Task A_live_checkpoint_is_the_state_of_its_moment_and_the_machine_goes_on(string backend)
    {
        var subject = await SubjectAsync(backend);
        Assert.SkipUnless(subject.Can.DiskSnapshot, $"{backend} saves nothing, and says so");
        var saved = new SavedInMemory();
        await using (var vm = await subject.StartAsync(Ct))
        {
            await WriteAsync(vm, "moment", "then"u8.ToArray());
            var context = await Subject.ContextAsync(vm, "javascript", Ct);
            await CodeAsync(vm, context, "var x = 'lives'");
            await vm.SaveAsync(saved, SaveMode.Continue, _ => Task.CompletedTask, Ct);
            await WriteAsync(vm, "moment", "later"u8.ToArray());
            Assert.Equal("lives\n", (await CodeAsync(vm, context, "console.log(x)")).Stdout);
        }

        await using var again = await RestoreAsync(subject, saved);
        Assert.Equal("then"u8.ToArray(), await ReadAsync(again, "moment"));
        Passed(subject);
    }

    [Theory, ClassData(typeof(Matrix))]
    public async Task Forks_of_one_saved_machine_are_independent(string backend)
    {
        var subject = await SubjectAsync(backend);
        Assert.SkipUnless(subject.Can.Fork, $"{backend} makes no forks, and says so");
        var saved = new SavedInMemory();
        await using (var vm = await subject.StartAsync(Ct))
        {
            await WriteAsync(vm, "shared", "from the parent"u8.ToArray());
            await vm.SaveAsync(saved, SaveMode.Continue, _ => Task.CompletedTask, Ct);
            await using var left = await RestoreAsync(subject, saved);
            await using var right = await RestoreAsync(subject, saved);
            await WriteAsync(left, "mine", "left"u8.ToArray());
            Assert.Equal("from the parent"u8.ToArray(), await ReadAsync(right, "shared"));
            Assert.Equal(ErrorCode.NotFound, (await RefusedAsync(right, new Request { Stat = new StatPath { Path = "mine" } })).Code);
            Assert.Equal(ErrorCode.NotFound, (await RefusedAsync(vm, new Request { Stat = new StatPath { Path = "mine" } })).Code);
            var random = await Task.WhenAll(RandomAsync(left), RandomAsync(right));
            Assert.NotEqual(random[0], random[1]);
        }

        Passed(subject);
    }

    [Theory, ClassData(typeof(Matrix))]
    public async Task A_fault_of_the_sink_fails_the_save_and_the_machine_goes_on(string backend)
    {
        var subject = await SubjectAsync(backend);
        Assert.SkipUnless(subject.Can.DiskSnapshot, $"{backend} saves nothing, and says so");
        await using var vm = await subject.StartAsync(Ct);
        await Assert.ThrowsAnyAsync<Exception>(() => vm.SaveAsync(new BrokenSink(), SaveMode.StayStopped, _ => Task.CompletedTask, Ct));
        await vm.ContinueAsync(Ct);
        await WriteAsync(vm, "after", [1]);
        Passed(subject);
    }

    [Theory, ClassData(typeof(Matrix))]
    public async Task A_machine_of_the_pool_is_claimed_with_a_disk_and_a_name_of_its_own(string backend)
    {
        var subject = await SubjectAsync(backend);
        Assert.SkipUnless(subject.Can.WarmPool, $"{backend} keeps no machines ready, and says so");
        var spec = subject.Spec();
        await using var vm = await subject.Backend.PrepareAsync(spec with { Owner = spec.Owner with { SessionId = "", Generation = 0 } }, Ct);
        Assert.NotNull(vm);
        var disk = Path.Combine(subject.Directory, "disks", spec.Owner.VmId + "-claimed.img");

        await vm.ClaimAsync(new MicroVmClaim("ses_claimed", 7, "claimed", disk), Ct);

        Assert.Equal(new MicroVmOwner(spec.Owner.VmId, "ses_claimed", 7), vm.Owner);
        Assert.True(File.Exists(disk));
        Assert.False(File.Exists(spec.DiskPath));
        await WriteAsync(vm, "mine", [1]);
        if (subject.Can.Processes)
        {
            Assert.Equal("claimed\n", (await ShellAsync(vm, "hostname")).Stdout);
        }

        Passed(subject);
    }

    private static Task<IMicroVm> RestoreAsync(Subject subject, SavedInMemory saved) =>
        subject.Backend.StartAsync(subject.Spec() with { Restore = new MachineRestore(saved, []) }, Ct);

    private static async Task<string> RandomAsync(IMicroVm vm) => (await CodeAsync(vm, await Subject.ContextAsync(vm, "javascript", Ct), "console.log(Math.random())")).Stdout;

    private sealed class BrokenSink : IMachineSink
    {
        public Task BeginAsync(MachineFacts facts, CancellationToken cancellationToken) => Task.CompletedTask;

        public Task WriteDevicesAsync(ReadOnlyMemory<byte> devices, CancellationToken cancellationToken) => Task.CompletedTask;

        public Task WriteGuestAsync(ReadOnlyMemory<byte> memo, CancellationToken cancellationToken) => Task.CompletedTask;

        public ValueTask WriteMemoryAsync(MachineBlock block, CancellationToken cancellationToken) => ValueTask.CompletedTask;

        public ValueTask WriteDiskAsync(MachineBlock block, CancellationToken cancellationToken) => throw new IOException("the store is full");
    }
}
