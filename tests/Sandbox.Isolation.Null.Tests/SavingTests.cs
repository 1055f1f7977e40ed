using System.Globalization;
using Sandbox.Guest.Protocol;
using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Guest;
using Sandbox.Isolation.Images;
using Sandbox.Isolation.Null.Tests.Support;
using Xunit;
using static Sandbox.Isolation.Null.Tests.Support.NullHost;

namespace Sandbox.Isolation.Null.Tests;

public sealed class SavingTests : IDisposable
{
    private static readonly TimeSpan Tick = TimeSpan.FromMilliseconds(100);
    private readonly NullHost _host = new();

    public void Dispose() => _host.Dispose();

    [Fact]
    public async Task A_restored_machine_is_what_was_saved()
    {
        var saved = new SavedBytes();
        await using (var vm = await _host.StartAsync())
        {
            await FinishAsync(await _host.RunAsync(vm, "set NAME value"));
            await vm.Guest.RequestAsync(new Request { CreateContext = new CreateContext { ContextId = "c1", Language = "python" } }, Token);
            await FinishAsync(await _host.RunCodeAsync(vm, "x=1"));
            await WriteFileAsync(vm, "a", new string('a', 200_000));
            var report = await vm.SaveAsync(saved, SaveMode.StayStopped, _ => Task.CompletedTask, Token);
            Assert.Equal(saved.Memory.Count * (long)MachineBlock.MemoryBlock, report.MemoryBytes);
            Assert.True(saved.Memory.Count > 8 && saved.Disk.Count > 1);
        }

        Assert.Equal(RestoreFit.Ready, await _host.Backend.FitAsync(_host.Root, new TemplateSizes { MemoryMiB = 128 }, saved.Facts, Token));
        Assert.Equal(RestoreFit.Foreign, await _host.Backend.FitAsync(_host.Root, new TemplateSizes { MemoryMiB = 128 }, saved.Facts with { Fingerprint = "null-0" }, Token));
        File.Delete(Path.Combine(_host.Root, "s1.img"));
        await using var restored = await _host.StartAsync(restore: new MachineRestore(saved, []));

        Assert.Equal("restore", restored.StartReport.Method);
        Assert.Equal("value\n", (await FinishAsync(await _host.RunAsync(restored, "get NAME"))).Text);
        Assert.Equal("1", (await FinishAsync(await _host.RunCodeAsync(restored, "x"))).Text);
        Assert.Equal(200_000UL, (await restored.Guest.RequestAsync(new Request { Stat = new StatPath { Path = "a" } }, Token)).File.Size);
    }

    [Theory]
    [InlineData(SaveMode.StayStopped)]
    [InlineData(SaveMode.Continue)]
    public async Task A_program_goes_on_after_a_restore_where_it_stood(SaveMode mode)
    {
        // At each save some events are acknowledged, some are in the log only, and some were never read.
        const int Lines = 40;
        var log = new List<ExecutionEvent>();
        var vm = await _host.StartAsync();
        var execution = await _host.RunAsync(vm, string.Create(CultureInfo.InvariantCulture, $"tick {Lines} 100"), r => r.OutputWindow = 3000);
        for (var round = 1; log.Count == 0 || log[^1].Exited is null; round++)
        {
            Assert.True(round < 100);
            for (var ticks = 0; ticks < 5; ticks++)
            {
                _host.Clock.Advance(Tick);
            }

            _host.Clock.Advance(Tick / 2);
            await ReadAsync(execution, log, Math.Min(4, Lines + 1 - log.Count));
            await execution.AcknowledgeAsync(log[^1].Seq - 1, Token);

            var saved = new SavedBytes();
            var logged = 0UL;
            await vm.SaveAsync(
                saved,
                mode,
                _ =>
                {
                    logged = log[^1].Seq;
                    return Task.CompletedTask;
                },
                Token);

            // What happens after a live save is lost with the machine.
            _host.Clock.Advance(Tick * 3);
            await vm.DisposeAsync();
            vm = await _host.StartAsync(restore: new MachineRestore(saved, [new RestoredExecution(execution.ExecutionId, logged)]));
            execution = vm.Survivors.Single();
        }

        await vm.DisposeAsync();
        Assert.Equal(Enumerable.Range(1, Lines + 1).Select(i => (ulong)i), log.Select(e => e.Seq));
        Assert.Equal(string.Concat(Enumerable.Range(1, Lines).Select(i => string.Create(CultureInfo.InvariantCulture, $"{i}\n"))), string.Concat(log.Select(TextOf)));
    }

    [Fact]
    public async Task A_sleep_that_was_saved_in_its_midst_lasts_only_for_what_is_left()
    {
        await using var vm = await _host.StartAsync();
        var execution = await _host.RunAsync(vm, "tick 1 100");
        _host.Clock.Advance(TimeSpan.FromMilliseconds(70));
        var saved = new SavedBytes();
        await vm.SaveAsync(saved, SaveMode.StayStopped, _ => Task.CompletedTask, Token);
        await vm.DisposeAsync();
        _host.Clock.Advance(TimeSpan.FromHours(1));
        await using var restored = await _host.StartAsync(restore: new MachineRestore(saved, [new RestoredExecution(execution.ExecutionId, 0)]));

        _host.Clock.Advance(TimeSpan.FromMilliseconds(29));
        var reading = FinishAsync(restored.Survivors[0]);
        Assert.False(reading.IsCompleted);
        _host.Clock.Advance(TimeSpan.FromMilliseconds(1));

        Assert.Equal("1\n", (await reading).Text);
    }

    [Fact]
    public async Task A_stopped_machine_stands_still_until_it_is_continued()
    {
        await using var vm = await _host.StartAsync();
        var ticking = await _host.RunAsync(vm, "tick 5 100", r => r.OutputWindow = 1);
        var log = new List<ExecutionEvent>();
        _host.Clock.Advance(Tick);
        await ReadAsync(ticking, log, 1);
        Task<IGuestExecution>? starting = null;
        Task? reading = null, signalling = null, unread = null;
        var holding = await _host.RunAsync(vm, "hold");
        await vm.SaveAsync(
            new SavedBytes(),
            SaveMode.StayStopped,
            async _ =>
            {
                // The acknowledgement would make room for the second tick, and its time has come.
                await ticking.AcknowledgeAsync(1, Token);
                _host.Clock.Advance(Tick * 10);
                reading = ReadAsync(ticking, log, 1);
                unread = ReadAsync(holding, [], 1);
                starting = _host.RunAsync(vm, "echo");
                signalling = holding.SignalAsync(9, Token).AsTask();
            },
            Token);
        _host.Clock.Advance(Tick * 10);
        Assert.False(reading!.IsCompleted || starting!.IsCompleted || signalling!.IsCompleted || unread!.IsCompleted);

        await vm.ContinueAsync(Token);

        await starting!;
        await signalling;
        await unread;
        Assert.False(reading.IsCompleted);
        _host.Clock.Advance(Tick);
        await reading;
        Assert.Equal("2\n", TextOf(log[^1]));
        await vm.ContinueAsync(Token);
    }

    [Fact]
    public async Task An_acknowledgement_does_not_reach_a_stopped_machine()
    {
        await using var vm = await _host.StartAsync();
        var execution = await _host.RunAsync(vm, "hold");
        await ReadAsync(execution, [], 1);
        await vm.SaveAsync(new SavedBytes(), SaveMode.StayStopped, _ => Task.CompletedTask, Token);
        await execution.AcknowledgeAsync(1, Token);
        var again = new SavedBytes();
        await vm.SaveAsync(again, SaveMode.Continue, _ => Task.CompletedTask, Token);
        await vm.DisposeAsync();

        await using var restored = await _host.StartAsync(restore: new MachineRestore(again, [new RestoredExecution(execution.ExecutionId, 0)]));

        var log = new List<ExecutionEvent>();
        await ReadAsync(restored.Survivors[0], log, 1);
        Assert.Equal("holding\n", TextOf(log[0]));
    }

    [Fact]
    public async Task A_live_save_lets_the_machine_run_on_while_it_is_written()
    {
        await using var vm = await _host.StartAsync();
        var ticking = await _host.RunAsync(vm, "tick 3 100");
        var written = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        var saving = vm.SaveAsync(new SavedBytes { OnPage = () => written.Task }, SaveMode.Continue, _ => Task.CompletedTask, Token);

        for (var tick = 0; tick < 3; tick++)
        {
            _host.Clock.Advance(Tick);
        }

        Assert.Equal("1\n2\n3\n", (await FinishAsync(ticking)).Text);
        Assert.False(saving.IsCompleted);
        written.SetResult();
        await saving;
    }

    [Theory]
    [InlineData(SaveMode.StayStopped)]
    [InlineData(SaveMode.Continue)]
    public async Task A_save_that_fails_leaves_a_machine_that_runs(SaveMode mode)
    {
        await using var vm = await _host.StartAsync();
        await Assert.ThrowsAsync<InvalidTimeZoneException>(() => vm.SaveAsync(new SavedBytes(), mode, _ => throw new InvalidTimeZoneException(), Token));
        await Assert.ThrowsAsync<IsolationException>(() => vm.SaveAsync(new SavedBytes { OnPage = () => throw new IOException("disk full") }, mode, _ => Task.CompletedTask, Token));

        Assert.Equal("here\n", (await FinishAsync(await _host.RunAsync(vm, "echo here"))).Text);
    }

    [Fact]
    public async Task A_restore_of_other_bytes_fails_and_leaves_nothing()
    {
        var saved = new SavedBytes();
        await using (var vm = await _host.StartAsync())
        {
            await vm.SaveAsync(saved, SaveMode.StayStopped, _ => Task.CompletedTask, Token);
        }

        File.Delete(Path.Combine(_host.Root, "s1.img"));
        saved.Memory.Last().Value[17] ^= 1;

        await Assert.ThrowsAsync<IsolationException>(() => _host.StartAsync(restore: new MachineRestore(saved, [])));

        Assert.Empty(_host.Backend.Live);
        Assert.False(File.Exists(Path.Combine(_host.Root, "s1.img")));
        await using var other = await _host.StartAsync();
    }

    [Fact]
    public async Task Executions_that_are_not_named_are_dropped_and_unknown_ones_fail_when_read()
    {
        var saved = new SavedBytes();
        await using (var vm = await _host.StartAsync())
        {
            await _host.RunAsync(vm, "hold");
            await vm.SaveAsync(saved, SaveMode.StayStopped, _ => Task.CompletedTask, Token);
        }

        await using var restored = await _host.StartAsync(restore: new MachineRestore(saved, [new RestoredExecution("who", 0)]));

        Assert.Equal("who", restored.Survivors.Single().ExecutionId);
        await Assert.ThrowsAsync<GuestUnavailableException>(() => FinishAsync(restored.Survivors[0]));
        Assert.Empty((await restored.Guest.RequestAsync(new Request { ListExecutions = new ListExecutions() }, Token)).Executions.Executions);
    }

    private static async Task ReadAsync(IGuestExecution execution, List<ExecutionEvent> log, int count)
    {
        await foreach (var e in execution.Events.WithCancellation(Token))
        {
            log.Add(e);
            if (--count == 0)
            {
                return;
            }
        }
    }
}
