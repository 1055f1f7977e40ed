using Sandbox.Guest.Protocol;
using Sandbox.Isolation.Guest;
using Sandbox.Isolation.Null.Tests.Support;
using Xunit;
using static Sandbox.Isolation.Null.Tests.Support.NullHost;

namespace Sandbox.Isolation.Null.Tests;

/// <summary>What the guest protocol says of executions, contexts and files.</summary>
public sealed class GuestTests : IDisposable
{
    private readonly NullHost _host = new();

    public void Dispose() => _host.Dispose();

    [Theory]
    [InlineData("echo a b", "a b\n", 0)]
    [InlineData("exit 7", "", 7)]
    [InlineData("count 3", "0\n1\n2\n", 0)]
    [InlineData("env HERE", "yes", 0)]
    [InlineData("get nothing", "not set\n", 1)]
    [InlineData("/bin/bash -l -c echo", "\n", 0)]
    public async Task Programs_say_what_they_say_and_exit(string line, string text, int code)
    {
        await using var vm = await _host.StartAsync();

        var (said, exit) = await FinishAsync(await _host.RunAsync(vm, line, r => r.Env["HERE"] = "yes"));

        Assert.Equal((text, code, 0), (said, exit.ExitCode, exit.Signal));
    }

    [Fact]
    public async Task An_unknown_program_is_refused()
    {
        await using var vm = await _host.StartAsync();

        var refused = await Assert.ThrowsAsync<GuestException>(() => _host.RunAsync(vm, "missing"));

        Assert.Equal(ErrorCode.NotFound, refused.Code);
    }

    [Fact]
    public async Task A_program_stands_still_while_its_window_is_full_and_loses_nothing()
    {
        await using var vm = await _host.StartAsync();
        var execution = await _host.RunAsync(vm, "count 100", r => r.OutputWindow = 600);
        var events = execution.Events.GetAsyncEnumerator(Token);
        for (var seq = 1UL; seq <= 3; seq++)
        {
            Assert.True(await events.MoveNextAsync());
            Assert.Equal(seq, events.Current.Seq);
        }

        // Three events of 258 bytes fill 600, and there is no fourth before an acknowledgement.
        var fourth = events.MoveNextAsync().AsTask();
        Assert.False(fourth.IsCompleted);
        await execution.AcknowledgeAsync(2, Token);
        Assert.True(await fourth);
        Assert.Equal("3\n", TextOf(events.Current));
        await Assert.ThrowsAsync<ArgumentOutOfRangeException>(() => execution.AcknowledgeAsync(5, Token).AsTask());

        Assert.EndsWith("98\n99\n", (await FinishAsync(execution)).Text, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Input_reaches_the_program_and_is_refused_after_its_end()
    {
        await using var vm = await _host.StartAsync();
        var execution = await _host.RunAsync(vm, "cat");
        await execution.WriteStdinAsync("one "u8.ToArray(), endOfFile: false, Token);
        await execution.WriteStdinAsync("two"u8.ToArray(), endOfFile: true, Token);

        Assert.Equal("one two", (await FinishAsync(execution)).Text);
        var refused = await Assert.ThrowsAsync<GuestException>(() => execution.WriteStdinAsync("x"u8.ToArray(), false, Token).AsTask());
        Assert.Equal(ErrorCode.Conflict, refused.Code);
    }

    [Fact]
    public async Task Input_waits_while_nobody_takes_it()
    {
        await using var vm = await _host.StartAsync();
        var execution = await _host.RunAsync(vm, "cat", r => r.OutputWindow = 1000);

        var writing = execution.WriteStdinAsync(new byte[1_000_000], endOfFile: true, Token).AsTask();

        Assert.False(writing.IsCompleted);
        Assert.Equal(1_000_000, (await FinishAsync(execution)).Text.Length);
        await writing;
    }

    [Fact]
    public async Task Signals_and_timeouts_end_programs()
    {
        await using var vm = await _host.StartAsync();
        var signalled = await _host.RunAsync(vm, "hold");
        await signalled.SignalAsync(10, Token);
        var late = await _host.RunAsync(vm, "hold", r => r.TimeoutMs = 1000);
        var stubborn = await _host.RunAsync(vm, "stubborn", r => (r.TimeoutMs, r.GraceMs) = (1000, 500));
        _host.Clock.Advance(TimeSpan.FromMilliseconds(1000));
        _host.Clock.Advance(TimeSpan.FromMilliseconds(500));

        Assert.Equal((10, false), Of((await FinishAsync(signalled)).Exit));
        Assert.Equal((15, true), Of((await FinishAsync(late)).Exit));
        Assert.Equal((9, true), Of((await FinishAsync(stubborn)).Exit));

        static (int, bool) Of(Exited exit) => (exit.Signal, exit.TimedOut);
    }

    [Fact]
    public async Task Code_of_a_context_runs_piece_by_piece_and_keeps_its_variables()
    {
        await using var vm = await _host.StartAsync();
        await Assert.ThrowsAsync<GuestException>(() => _host.RunCodeAsync(vm, "x=1"));
        await vm.Guest.RequestAsync(new Request { CreateContext = new CreateContext { ContextId = "c1", Language = "python" } }, Token);

        var ticking = await _host.RunCodeAsync(vm, "tick 2 10");
        var setting = await _host.RunCodeAsync(vm, "x = 42");
        var reading = await _host.RunCodeAsync(vm, "x");
        var unread = FinishAsync(reading);
        Assert.False(unread.IsCompleted);
        Assert.True((await vm.Guest.RequestAsync(new Request { ListContexts = new ListContexts() }, Token)).Contexts.Contexts[0].Busy);
        _host.Clock.Advance(TimeSpan.FromMilliseconds(10));
        _host.Clock.Advance(TimeSpan.FromMilliseconds(10));

        Assert.Equal("1\n2\n", (await FinishAsync(ticking)).Text);
        Assert.Equal("", (await FinishAsync(setting)).Text);
        Assert.Equal("42", (await unread).Text);
        var unknown = await FinishAsync(await _host.RunCodeAsync(vm, "y"));
        Assert.Equal(("NameError", 1), (unknown.Text, unknown.Exit.ExitCode));

        var held = await _host.RunCodeAsync(vm, "hold on");
        await held.SignalAsync(2, Token);
        var interrupted = await FinishAsync(held);
        Assert.Equal(("holding\nKeyboardInterrupt", 1), (interrupted.Text, interrupted.Exit.ExitCode));
        Assert.Equal("42", (await FinishAsync(await _host.RunCodeAsync(vm, "x"))).Text);

        held = await _host.RunCodeAsync(vm, "hold on");
        await held.SignalAsync(9, Token);
        Assert.True((await FinishAsync(held)).Exit.ContextLost);
        Assert.Equal("NameError", (await FinishAsync(await _host.RunCodeAsync(vm, "x"))).Text);
    }

    [Fact]
    public async Task Files_outlive_the_machine()
    {
        await using (var vm = await _host.StartAsync())
        {
            Assert.Equal("clone", vm.StartReport.Method);
            await WriteFileAsync(vm, "notes/a.txt", "hello");
            await WriteFileAsync(vm, "/tmp/b", "b");
            await vm.Guest.RequestAsync(new Request { Move = new MovePath { From = "/home/user/notes", To = "/tmp/notes" } }, Token);
            await vm.Guest.RequestAsync(new Request { Remove = new RemovePath { Path = "/tmp/b" } }, Token);
        }

        await using var next = await _host.StartAsync();

        Assert.Equal("boot", next.StartReport.Method);
        Assert.Equal("hello", await ReadFileAsync(next, "/tmp/notes/a.txt"));
        var listed = await next.Guest.RequestAsync(new Request { List = new ListDirectory { Path = "/tmp", Depth = 2, Limit = 10 } }, Token);
        Assert.Equal(["/tmp/notes", "/tmp/notes/a.txt"], listed.Files.Entries.Select(e => e.Path));
        var gone = await Assert.ThrowsAsync<GuestException>(() => next.Guest.RequestAsync(new Request { Stat = new StatPath { Path = "/tmp/b" } }, Token));
        Assert.Equal(ErrorCode.NotFound, gone.Code);
    }

    [Fact]
    public async Task A_machine_that_dies_says_why_and_takes_its_executions_along()
    {
        await using var vm = await _host.StartAsync();
        var held = await _host.RunAsync(vm, "hold");
        var reading = FinishAsync(held);

        await _host.RunAsync(vm, "panic out of luck");

        Assert.Equal(new(false, "out of luck"), await vm.Exited.WaitAsync(Token));
        await Assert.ThrowsAsync<GuestUnavailableException>(() => reading);
        await Assert.ThrowsAsync<GuestUnavailableException>(() => _host.RunAsync(vm, "echo"));
    }
}
