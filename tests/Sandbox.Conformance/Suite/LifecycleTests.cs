using Sandbox.Conformance.Backends;
using Sandbox.Isolation.Backends;
using Xunit;

namespace Sandbox.Conformance.Suite;

/// <summary>From the first question to the last trace: probing, starting, dying, disposing, reaping.</summary>
public sealed class LifecycleTests(Subjects subjects) : ConformanceTest(subjects)
{
    [Theory, ClassData(typeof(Matrix))]
    public async Task The_verdict_names_the_program_and_stays_the_same(string backend)
    {
        var subject = await SubjectAsync(backend);

        Assert.NotEmpty(subject.Verdict.Version);
        Assert.NotEmpty(subject.Verdict.Reason);
        Assert.Equal(subject.Verdict, await subject.Backend.ProbeAsync(Ct));
        Assert.Equal(backend, subject.Backend.Name);
        Passed(subject);
    }

    [Theory, ClassData(typeof(Matrix))]
    public async Task A_machine_starts_answers_and_leaves_nothing_but_its_disk(string backend)
    {
        var subject = await SubjectAsync(backend);
        var spec = subject.Spec();
        var vm = await subject.Backend.StartAsync(spec, Ct);
        Assert.Equal(spec.Owner, vm.Owner);
        Assert.False(vm.Exited.IsCompleted);
        Assert.False(vm.Guest.Closed.IsCompleted);
        Assert.Contains(vm.StartReport.Method, (string[])["boot", "clone"]);
        await WriteAsync(vm, "kept", "kept"u8.ToArray());
        await AskAsync(vm, new Sandbox.Guest.Protocol.Request { Sync = new Sandbox.Guest.Protocol.SyncDisks() });

        await vm.DisposeAsync();

        Assert.True((await vm.Exited).Expected);
        await vm.Guest.Closed.WaitAsync(TimeSpan.FromSeconds(10), Ct);
        await UntilAsync(() => subject.Leftovers(spec.Owner.VmId).Count == 0, "left: " + string.Join("; ", subject.Leftovers(spec.Owner.VmId)));

        // The disk is the session's: the next machine has it.
        await using var again = await subject.Backend.StartAsync(spec with { Owner = spec.Owner with { VmId = "again-" + spec.Owner.VmId, Generation = 2 } }, Ct);
        Assert.Equal("kept"u8.ToArray(), await ReadAsync(again, "kept"));
        Passed(subject);
    }

    [Theory, ClassData(typeof(Matrix))]
    public async Task Disposing_twice_is_disposing_once(string backend)
    {
        var subject = await SubjectAsync(backend);
        var vm = await subject.StartAsync(Ct);
        await Task.WhenAll(vm.DisposeAsync().AsTask(), vm.DisposeAsync().AsTask());
        await vm.DisposeAsync();
        Passed(subject);
    }

    [Theory, ClassData(typeof(Matrix))]
    public async Task Absurd_sizes_and_missing_images_are_refused_and_make_nothing(string backend)
    {
        var subject = await SubjectAsync(backend);
        var spec = subject.Spec();
        foreach (var wrong in (MicroVmSpec[])[spec with { Vcpus = 0 }, spec with { Vcpus = 1000 }, spec with { MemoryMiB = 1 }, spec with { DiskMiB = 1 }, spec with { ImageDirectory = "/nowhere" }])
        {
            var error = await Assert.ThrowsAsync<IsolationException>(() => subject.Backend.StartAsync(wrong, Ct));
            Assert.True(error.Message.Length > 20, error.Message);
        }

        Assert.False(File.Exists(spec.DiskPath));
        Assert.Empty(subject.Leftovers(spec.Owner.VmId));
        Passed(subject);
    }

    [Theory, ClassData(typeof(Matrix))]
    public async Task A_cancelled_start_leaves_nothing(string backend)
    {
        var subject = await SubjectAsync(backend);
        var spec = subject.Spec();
        using var cancel = new CancellationTokenSource();
        var start = subject.Backend.StartAsync(spec, cancel.Token);
        await Task.Delay(15, Ct);
        await cancel.CancelAsync();

        try
        {
            // It may have been faster.
            await (await start).DisposeAsync();
        }
        catch (OperationCanceledException)
        {
        }

        await UntilAsync(() => subject.Leftovers(spec.Owner.VmId).Count == 0, "left: " + string.Join("; ", subject.Leftovers(spec.Owner.VmId)));
        Passed(subject);
    }

    [Theory, ClassData(typeof(Matrix))]
    public async Task What_no_lease_claims_is_reaped_and_the_rest_goes_on(string backend)
    {
        var subject = await SubjectAsync(backend);
        var live = await subject.SharedAsync("shared", Ct);
        var neighbour = await subject.SharedAsync("neighbour", Ct);
        var orphan = await subject.StartAsync(Ct);

        var reaped = await subject.Backend.ReapAsync(o => o == live.Owner || o == neighbour.Owner, Ct);

        Assert.Contains(reaped, r => r.Owner == orphan.Owner);
        Assert.DoesNotContain(reaped, r => r.Owner == live.Owner);
        var exit = await orphan.Exited.WaitAsync(TimeSpan.FromSeconds(30), Ct);
        Assert.NotEmpty(exit.Reason);
        await orphan.DisposeAsync();
        Assert.Empty(subject.Leftovers(orphan.Owner.VmId));
        await WriteAsync(live, "after-reap", [1]);
        Assert.Empty(await subject.Backend.ReapAsync(o => o == live.Owner || o == neighbour.Owner, Ct));
        Passed(subject);
    }

    [Theory, ClassData(typeof(Matrix))]
    public async Task A_machine_that_is_killed_says_so_and_takes_its_channel_with_it(string backend)
    {
        var subject = await SubjectAsync(backend);
        var vm = await subject.StartAsync(Ct);
        var processes = HostTraces.ProcessesOf(subject.TraceHost, vm.Owner.VmId);
        Assert.SkipWhen(processes.Count == 0, $"a machine of {backend} is no process of its own");

        foreach (var pid in processes)
        {
            Kill(pid);
        }

        var exit = await vm.Exited.WaitAsync(TimeSpan.FromSeconds(30), Ct);
        Assert.False(exit.Expected);
        Assert.NotEmpty(exit.Reason);
        await vm.Guest.Closed.WaitAsync(TimeSpan.FromSeconds(30), Ct);
        await vm.DisposeAsync();
        Assert.Empty(subject.Leftovers(vm.Owner.VmId));
        Passed(subject);
    }

    private static void Kill(int pid)
    {
        try
        {
            using var process = System.Diagnostics.Process.GetProcessById(pid);
            process.Kill();
        }
        catch (Exception e) when (e is ArgumentException or InvalidOperationException)
        {
            // Its parent took it along.
        }
    }
}
