using Sandbox.Abstractions;
using Sandbox.Client.Output;
using Xunit;
using static Sandbox.Client.Tests.ScriptedWorld;

namespace Sandbox.Client.Tests;

/// <summary>A reader follows an execution over pauses of its session and from host to host, and neither hangs nor gives up too early.</summary>
public sealed class FollowingTests
{
    private readonly ScriptedWorld _world = new();

    [Fact]
    public async Task Output_goes_on_by_number_on_the_host_where_the_session_goes_on()
    {
        _world.At("a", Texts(1, "one", "two"), Suspended).At("b", Texts(1, "one", "two", "three"), Exit(4)).Session(Says("a", waiting: true), Says("b"));

        Assert.Equal("1:one 2:two 3:three 4:exit", await _world.ReadAsync("a"));
        Assert.Equal("a1 a3 ? a3 ? b3 b4", string.Join(' ', _world.Asked));
    }

    [Fact]
    public async Task A_session_that_goes_on_where_it_was_is_read_there()
    {
        _world.At("a", Texts(1, "one"), Suspended, Suspended, Texts(2, "two"), Exit(3)).Session(Says("a", waiting: true), Says("a"));

        Assert.Equal("1:one 2:two 3:exit", await _world.ReadAsync("a"));
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task A_long_pause_does_not_run_into_the_retry_deadline(bool hostAway)
    {
        // No trouble at all is tolerated: what counts as trouble would end the reading at its second look.
        _world.Options.RetryDeadline = TimeSpan.FromMilliseconds(-1);
        _world.At("a", hostAway ? Dead : Suspended).At("b", Texts(1, "one"), Exit(2))
            .Session([.. Enumerable.Repeat(Says("a", waiting: true), 200), Says("b")]);

        Assert.Equal("1:one 2:exit", await _world.ReadAsync("a"));
        Assert.Equal(201, _world.Asked.Count(a => a == "?"));
    }

    [Fact]
    public async Task A_dead_host_is_left_for_the_one_that_the_session_names()
    {
        _world.At("a", Texts(1, "one"), Dead).At("b", Dead, Texts(2, "two"), Exit(3)).Session(Says("a"), Says("b"));

        Assert.Equal("1:one 2:two 3:exit", await _world.ReadAsync("a"));
    }

    [Fact]
    public async Task A_log_that_the_old_host_has_thrown_away_is_read_on_the_new_one()
    {
        _world.At("a", Texts(1, "one"), Gone).At("b", Texts(1, "one", "two"), Exit(3)).Session(Says("b"));

        Assert.Equal("1:one 2:two 3:exit", await _world.ReadAsync("a"));
    }

    [Fact]
    public async Task A_session_that_moves_twice_is_followed_twice()
    {
        _world.At("a", Texts(1, "one"), Suspended).At("b", Texts(2, "two"), Suspended).At("c", Exit(3)).Session(Says("b"), Says("b", waiting: true), Says("c"));

        Assert.Equal("1:one 2:two 3:exit", await _world.ReadAsync("a"));
    }

    [Fact]
    public async Task The_exit_of_a_lost_execution_is_read_where_the_log_has_it()
    {
        _world.At("a", Texts(1, "one"), Suspended, Exit(2)).Session(Says("a", ended: true, lost: true));

        Assert.Equal("1:one 2:exit", await _world.ReadAsync("a"));
    }

    [Theory]
    [InlineData("suspended")]
    [InlineData("gone")]
    [InlineData("dead")]
    public async Task A_lost_execution_without_an_exit_in_its_log_ends_the_reading(string log)
    {
        _world.Options.RetryDeadline = log == "dead" ? TimeSpan.FromMilliseconds(20) : _world.Options.RetryDeadline;
        _world.At("a", Texts(1, "one"), log switch { "suspended" => Suspended, "gone" => Gone, _ => Dead }).Session(Says("a"), Says("a", ended: true, lost: true));

        Assert.Equal("1:one", await _world.ReadAsync("a"));
    }

    [Fact]
    public async Task The_output_of_an_execution_that_ended_by_itself_is_never_cut_short_in_silence()
    {
        _world.Options.RetryDeadline = TimeSpan.FromMilliseconds(20);
        _world.At("a", Texts(1, "one"), Dead).Session(Says("a", ended: true));

        var e = await Assert.ThrowsAsync<SandboxException>(() => _world.ReadAsync("a"));

        Assert.Equal(SandboxErrorCode.Unavailable, e.Code);
    }

    [Fact]
    public async Task A_host_that_nobody_can_reach_is_given_up_after_the_deadline()
    {
        _world.Options.RetryDeadline = TimeSpan.FromMilliseconds(20);
        _world.At("a", Dead).Session(Says("a"));

        var e = await Assert.ThrowsAsync<SandboxException>(() => _world.ReadAsync("a"));

        Assert.Equal(SandboxErrorCode.Unavailable, e.Code);
        Assert.Contains("?", _world.Asked);
    }

    [Fact]
    public async Task A_session_that_is_gone_is_said()
    {
        _world.At("a", Texts(1, "one"), Gone).Session(() => throw SandboxException.NotFound("There is no session."));

        var e = await Assert.ThrowsAsync<SandboxException>(() => _world.ReadAsync("a"));

        Assert.Equal("There is no session.", e.Message);
    }

    [Fact]
    public async Task A_session_that_cannot_be_asked_for_a_while_is_asked_again()
    {
        _world.At("a", Texts(1, "one"), Suspended).At("b", Exit(2)).Session(() => throw SandboxException.Unavailable("no gateway"), () => throw new TimeoutException(), Says("b"));

        Assert.Equal("1:one 2:exit", await _world.ReadAsync("a"));
    }

    [Fact]
    public async Task What_the_stream_brings_during_a_pause_is_not_waited_for()
    {
        // The log stays suspended for ever: only the stream can bring the rest.
        _world.At("a", Suspended).Session(Says("a", waiting: true));
        var feed = new OutputFeed(async deliver =>
        {
            await deliver(new OutputBatch([new OutputEvent(1, OutputKind.Stdout, DateTimeOffset.UnixEpoch, "one"u8.ToArray())]));
            await deliver(new OutputBatch([Exit(2)(2).Events[0]]));
            return () => Task.CompletedTask;
        });

        Assert.Equal("1:one 2:exit", await _world.ReadAsync("a", feed: feed));
    }

    [Theory]
    [InlineData(SessionState.Running, ExecutionState.Running, null, false, false, false)]
    [InlineData(SessionState.Paused, ExecutionState.Running, null, false, false, true)]
    [InlineData(SessionState.Pausing, ExecutionState.Running, null, false, false, true)]
    [InlineData(SessionState.Resuming, ExecutionState.Running, null, false, false, true)]
    [InlineData(SessionState.Running, ExecutionState.Ended, ExitReason.Exited, true, false, false)]
    [InlineData(SessionState.Running, ExecutionState.Ended, ExitReason.Killed, true, false, false)]
    [InlineData(SessionState.Running, ExecutionState.Ended, ExitReason.Lost, true, true, false)]
    [InlineData(SessionState.Terminated, ExecutionState.Ended, ExitReason.Killed, true, true, false)]
    [InlineData(SessionState.Terminated, ExecutionState.Ended, ExitReason.Exited, true, false, false)]
    [InlineData(SessionState.Failed, ExecutionState.Running, null, true, true, false)]
    public void What_a_session_says_is_understood(SessionState session, ExecutionState execution, ExitReason? exit, bool ended, bool lost, bool waiting)
    {
        var info = new ExecutionInfo
        {
            Id = "exe",
            SessionId = "ses",
            HostId = "a",
            State = execution,
            Title = "x",
            Exit = exit is { } reason ? new ExecutionExit { Reason = reason, ExitCode = 0 } : null,
        };

        Assert.Equal(new Whereabouts("a", ended, lost, waiting), Whereabouts.Of(info, new SessionInfo { Id = "ses", Tenant = "t", State = session, Template = "python" }));
    }
}
