using Sandbox.Abstractions;
using Sandbox.Grains.Tests.Support;
using Xunit;

namespace Sandbox.Grains.Tests;

/// <summary>Sessions that may run for so long at a time, that are not woken by calls, and that never run.</summary>
public sealed class RunLimitTests
{
    private static readonly CreateSessionRequest Null = new() { Template = "null", Untrusted = false };

    [Fact]
    public async Task A_session_is_paused_at_its_run_limit_however_busy_and_a_resume_begins_anew()
    {
        await using var cluster = await SandboxTestCluster.StartNullAsync(silos: 1);
        var session = await cluster.Client().StartSessionAsync(Null with { RunLimit = TimeSpan.FromMinutes(5) });
        await session.StartCommandAsync(["tick", "1000000", "20"]);
        var first = await session.GetAsync();
        Assert.Equal(TimeSpan.FromMinutes(5), first.RunLimit);
        Assert.InRange(first.RunsUntil!.Value - cluster.Clock.GetUtcNow(), TimeSpan.FromMinutes(4), TimeSpan.FromMinutes(5));

        // Less where that is asked for, more where it is more.
        var same = await session.SetRunLimitAsync(TimeSpan.FromMinutes(1), onlyLater: true);
        Assert.Equal(first.RunsUntil, same.RunsUntil);
        await session.SetRunLimitAsync(TimeSpan.FromMinutes(10));
        cluster.Clock.Advance(TimeSpan.FromMinutes(8));
        Assert.Equal(SessionState.Running, (await session.GetAsync()).State);
        cluster.Clock.Advance(TimeSpan.FromMinutes(3));
        await Eventually.TrueAsync(async () => (await session.GetAsync()).State == SessionState.Paused);
        Assert.Contains("run limit of 10 minutes", (await session.GetAsync()).Cause, StringComparison.Ordinal);
        Assert.Null((await session.GetAsync()).RunsUntil);

        var resumed = await session.ResumeAsync();
        Assert.InRange(resumed.RunsUntil!.Value - cluster.Clock.GetUtcNow(), TimeSpan.FromMinutes(9), TimeSpan.FromMinutes(10));
    }

    [Fact]
    public async Task A_session_ends_at_its_run_limit_where_that_is_wanted()
    {
        await using var cluster = await SandboxTestCluster.StartNullAsync(silos: 1);
        var session = await cluster.Client().StartSessionAsync(Null with { RunLimit = TimeSpan.FromMinutes(5), IdleAction = IdleAction.Terminate });
        Assert.Equal("runLimitSeconds", (await Assert.ThrowsAsync<SandboxException>(() => session.SetRunLimitAsync(TimeSpan.Zero))).Field);
        cluster.Clock.Advance(TimeSpan.FromMinutes(6));
        await Eventually.TrueAsync(async () => (await session.GetAsync()).State == SessionState.Terminated);
    }

    [Fact]
    public async Task A_session_that_does_not_wake_on_calls_is_woken_by_a_resume_or_by_a_call_that_says_so()
    {
        await using var cluster = await SandboxTestCluster.StartNullAsync(silos: 1);
        var session = await cluster.Client().StartSessionAsync(Null with { WakeOnCall = false });
        await session.PauseAsync();
        Assert.Equal(SandboxErrorCode.Conflict, (await Assert.ThrowsAsync<SandboxException>(() => session.GetMetricsAsync())).Code);
        await session.WithWake(true).GetMetricsAsync();
        Assert.Equal(SessionState.Running, (await session.GetAsync()).State);
        await session.PauseAsync();
        Assert.Equal(SessionState.Running, (await session.ResumeAsync()).State);
    }

    [Fact]
    public async Task A_sealed_session_outlives_the_one_it_was_made_of_never_runs_and_others_begin_with_it()
    {
        await using var cluster = await SandboxTestCluster.StartNullAsync(silos: 1);
        var client = cluster.Client();
        var session = await client.StartSessionAsync(Null);
        await session.StartCommandAsync(["set", "x", "saved"]).FinishAsync();
        Assert.Equal("from", (await Assert.ThrowsAsync<SandboxException>(() => client.CreateSessionAsync(Null with { Sealed = true }))).Field);

        var checkpoint = await session.CheckpointAsync("to keep");
        var kept = await client.CreateSessionAsync(new CreateSessionRequest { From = new CheckpointReference(session.Id, checkpoint.Id), Sealed = true, Untrusted = false });
        await Eventually.TrueAsync(async () => (await kept.GetAsync()).State == SessionState.Paused);
        Assert.True((await kept.GetAsync()).Sealed);
        await session.TerminateAsync();
        await cluster.RestartAsync();

        client = cluster.Client();
        kept = client.GetSession(kept.Id);
        Assert.Equal(SandboxErrorCode.Conflict, (await Assert.ThrowsAsync<SandboxException>(() => kept.ResumeAsync())).Code);
        Assert.Equal(SandboxErrorCode.Conflict, (await Assert.ThrowsAsync<SandboxException>(() => kept.GetMetricsAsync())).Code);
        var own = Assert.Single(await kept.ListCheckpointsAsync());
        Assert.Equal(SandboxErrorCode.Conflict, (await Assert.ThrowsAsync<SandboxException>(() => kept.RollbackAsync(own.Id))).Code);
        var made = await client.StartSessionAsync(new CreateSessionRequest { From = new CheckpointReference(kept.Id, own.Id), Untrusted = false });
        Assert.False((await made.GetAsync()).Sealed);
        var answer = await made.StartCommandAsync(["get", "x"]).FinishAsync();
        Assert.Contains("saved", answer.Stdout, StringComparison.Ordinal);

        await kept.TerminateAsync();
        Assert.Equal(SessionState.Terminated, (await kept.GetAsync()).State);
    }
}
