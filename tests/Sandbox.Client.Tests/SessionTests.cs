using System.Collections.Concurrent;
using Sandbox.Abstractions;
using Xunit;

namespace Sandbox.Client.Tests;

/// <summary>What the client makes of a session's answers.</summary>
public sealed class SessionTests
{
    private readonly ConcurrentQueue<string> _calls = new();

    [Theory]
    [InlineData(SessionState.Paused, null)]
    [InlineData(SessionState.Running, SandboxErrorCode.Unavailable)]
    [InlineData(SessionState.Terminated, SandboxErrorCode.Conflict)]
    public async Task A_pause_is_over_when_the_session_is_paused_and_else_says_why(SessionState settled, SandboxErrorCode? error)
    {
        var states = new Queue<SessionState>([SessionState.Pausing, settled]);
        var session = Session((name, _) => name switch
        {
            "Pause" => Info(SessionState.Pausing),
            "WaitUntilSettled" => Info(states.Dequeue(), "the store is full"),
            _ => null,
        });

        if (error is null)
        {
            Assert.Equal(settled, (await session.PauseAsync()).State);
        }
        else
        {
            var e = await Assert.ThrowsAsync<SandboxException>(() => session.PauseAsync());
            Assert.Equal(error, e.Code);
            Assert.Contains("the store is full", e.Message, StringComparison.Ordinal);
        }

        Assert.Empty(states);
    }

    [Theory]
    [InlineData(SessionState.Running, true)]
    [InlineData(SessionState.Paused, false)]
    [InlineData(SessionState.Failed, false)]
    public async Task A_resume_is_over_when_the_session_runs_and_else_says_why(SessionState settled, bool runs)
    {
        var session = Session((name, _) => name switch
        {
            "Resume" => Info(SessionState.Resuming),
            "WaitUntilSettled" => Info(settled, "no host has room"),
            _ => null,
        });

        if (runs)
        {
            Assert.Equal(settled, (await session.ResumeAsync()).State);
        }
        else
        {
            Assert.Contains("no host has room", (await Assert.ThrowsAsync<SandboxException>(() => session.ResumeAsync())).Message, StringComparison.Ordinal);
        }
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task Forks_are_handed_over_when_all_of_them_run_and_else_none_is_left(bool allRun)
    {
        var settled = new ConcurrentQueue<SessionState>([SessionState.Running, allRun ? SessionState.Running : SessionState.Failed]);
        var session = Session((name, arguments) => name switch
        {
            "Fork" => new List<SessionInfo> { Info(SessionState.Creating) with { Id = "ses_1" }, Info(SessionState.Creating) with { Id = "ses_2" } },
            "WaitUntilSettled" => settled.TryDequeue(out var state) ? Info(state, "no room") : throw new InvalidOperationException("asked too often"),
            "Terminate" => Info(SessionState.Terminated),
            _ => null,
        });

        if (allRun)
        {
            Assert.Equal(["ses_1", "ses_2"], (await session.ForkAsync(2)).Select(f => f.Id));
            Assert.DoesNotContain("Terminate", _calls);
        }
        else
        {
            await Assert.ThrowsAsync<SandboxException>(() => session.ForkAsync(2));
            Assert.Equal(2, _calls.Count(c => c == "Terminate"));
        }
    }

    [Fact]
    public async Task A_choice_whether_to_wake_goes_with_the_calls_of_that_view_alone()
    {
        var choices = new List<bool?>();
        var session = Session((name, _) =>
        {
            choices.Add(RequestContext.Get(WakeContext.Key) as bool?);
            return name switch { "Stat" => new FileEntry { Path = "x", Kind = FileKind.File }, "StartExecution" => Execution(null), _ => null };
        });

        await session.Files.StatAsync("x");
        await session.WithWake(false).Files.StatAsync("x");
        await (await session.WithWake(false).StartShellAsync("x")).SignalAsync(15);
        await session.WithWake(true).GetMetricsAsync();
        await session.GetMetricsAsync();

        Assert.Equal([null, false, false, false, true, null], choices);
        Assert.Null(RequestContext.Get(WakeContext.Key));
    }

    [Theory]
    [InlineData(ExitReason.Lost, true)]
    [InlineData(ExitReason.Exited, true)]
    [InlineData(null, false)]
    public async Task An_exit_whose_log_is_gone_is_taken_from_the_session(ExitReason? reason, bool known)
    {
        var session = Session((name, _) => name switch
        {
            "GetExecution" => Execution(reason),
            "Get" => Info(SessionState.Running),
            "Read" => throw SandboxException.NotFound("no such log"),
            _ => null,
        });
        var execution = await session.GetExecutionAsync("exe");

        if (known)
        {
            Assert.Equal(reason, (await execution.WaitForExitAsync()).Reason);
        }
        else
        {
            Assert.Contains("no such log", (await Assert.ThrowsAsync<SandboxException>(() => execution.WaitForExitAsync())).Message, StringComparison.Ordinal);
        }
    }

    private static SessionInfo Info(SessionState state, string? cause = null) => new() { Id = "ses", Tenant = "acme", State = state, Cause = cause, Template = "python" };

    private static ExecutionInfo Execution(ExitReason? exit) => new()
    {
        Id = "exe",
        SessionId = "ses",
        HostId = "a",
        State = exit is null ? ExecutionState.Running : ExecutionState.Ended,
        Title = "x",
        Exit = exit is { } reason ? new ExecutionExit { Reason = reason, ExitCode = 1 } : null,
    };

    private SandboxSession Session(Func<string, object?[], object?> answer) => ScriptedGrains.Client((name, arguments) =>
    {
        _calls.Enqueue(name);
        return answer(name, arguments);
    }).GetSession("ses");
}
