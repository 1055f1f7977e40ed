using Sandbox.Abstractions;
using Sandbox.Grains.Tests.Support;
using Xunit;

namespace Sandbox.Grains.Tests;

/// <summary>State first; a key does nothing twice; time passes.</summary>
public sealed class DurabilityTests
{
    [Fact]
    public async Task Nothing_is_announced_that_storage_did_not_take()
    {
        await using var cluster = await SandboxTestCluster.StartAsync(silos: 1);
        cluster.Storage.BeforeWrite = (state, _) => state == "session" ? throw new IOException("disk on fire") : Task.CompletedTask;
        var id = SandboxIds.NewSession();
        TenantContext.Set("acme");
        var grain = cluster.Grains.GetGrain<ISessionGrain>(id);
        var e = await Assert.ThrowsAsync<SandboxException>(() => grain.CreateAsync(new CreateSessionRequest(), "k"));
        Assert.Equal(SandboxErrorCode.Unavailable, e.Code);
        await Assert.ThrowsAsync<SandboxException>(() => grain.GetAsync());
        Assert.Empty(cluster.Backends["host-a"].Started);
        Assert.Empty(await cluster.Client().ListSessionsAsync());

        cluster.Storage.BeforeWrite = (_, _) => Task.CompletedTask;
        var session = await cluster.Client().StartSessionAsync();

        // Terminated is not said before it is stored: the write is held, and the state seen meanwhile is the old one.
        var held = new TaskCompletionSource();
        var reached = new TaskCompletionSource();
        cluster.Storage.BeforeWrite = (state, _) =>
        {
            reached.TrySetResult();
            return state == "session" ? held.Task : Task.CompletedTask;
        };
        var terminate = session.TerminateAsync();
        await reached.Task;
        Assert.Equal(SessionState.Running, (await session.GetAsync()).State);
        Assert.Single(cluster.Backends["host-a"].Live);
        held.SetResult();
        Assert.Equal(SessionState.Terminated, (await terminate).State);
    }

    [Fact]
    public async Task A_key_used_again_does_nothing_twice_and_a_key_for_something_else_is_refused()
    {
        await using var cluster = await SandboxTestCluster.StartAsync(silos: 1);
        var client = cluster.Client();
        var id = SandboxIds.NewSession();
        await client.CreateSessionAsync(new CreateSessionRequest { Env = new() { ["A"] = "1", ["B"] = "2" } }, "create-1", id);
        await client.CreateSessionAsync(new CreateSessionRequest { Env = new() { ["B"] = "2", ["A"] = "1" } }, "create-1", id);
        await CodeAsync(SandboxErrorCode.AlreadyExists, () => client.CreateSessionAsync(new CreateSessionRequest(), "create-2", id));
        await CodeAsync(SandboxErrorCode.Conflict, () => client.CreateSessionAsync(new CreateSessionRequest { Vcpus = 2 }, "create-1", id));
        var session = client.GetSession(id);
        await session.WaitUntilRunningAsync();
        Assert.Single(cluster.Backends["host-a"].Started);

        var request = new ExecutionRequest { Argv = ["echo", "once"] };
        var both = await Task.WhenAll(Enumerable.Range(0, 8).Select(_ => session.StartAsync(request, "run-1")));
        Assert.Single(both.Select(e => e.Id).Distinct());
        await both[0].WaitForExitAsync();
        Assert.Equal(both[0].Id, (await session.StartAsync(request, "run-1")).Id);
        await CodeAsync(SandboxErrorCode.Conflict, () => session.StartAsync(request with { Argv = ["echo", "twice"] }, "run-1"));
        Assert.Single(await session.ListExecutionsAsync());

        TenantContext.Set("acme");
        var grain = cluster.Grains.GetGrain<ISessionGrain>(id);
        await grain.SetTimeoutsAsync(TimeSpan.FromMinutes(5), null, "t");
        await CodeAsync(SandboxErrorCode.Conflict, () => grain.SetTimeoutsAsync(TimeSpan.FromMinutes(6), null, "t"));
        await grain.TerminateAsync("end");
        Assert.Equal(SessionState.Terminated, (await grain.TerminateAsync("end")).State);
        Assert.Equal(SessionState.Terminated, (await grain.TerminateAsync(null)).State);
    }

    [Fact]
    public async Task A_session_that_is_idle_or_at_the_end_of_its_life_is_ended_and_says_why()
    {
        await using var cluster = await SandboxTestCluster.StartAsync(silos: 1);
        var client = cluster.Client();
        var idle = await client.StartSessionAsync(new CreateSessionRequest { IdleTimeout = TimeSpan.FromMinutes(10) });
        var busy = await client.StartSessionAsync(new CreateSessionRequest { IdleTimeout = TimeSpan.FromMinutes(10), MaxLifetime = TimeSpan.FromMinutes(30) });
        var hold = await busy.StartCommandAsync(["hold"]);

        for (var minute = 0; minute < 11; minute++)
        {
            cluster.Clock.Advance(TimeSpan.FromMinutes(1));
            await Eventually.TrueAsync(async () => (await busy.GetAsync()).LastActivityAt >= cluster.Clock.GetUtcNow());
        }

        await Eventually.TrueAsync(async () => (await idle.GetAsync()).State == SessionState.Terminated);
        Assert.Equal("idle for 10 minutes", (await idle.GetAsync()).Cause);
        Assert.Equal(SessionState.Running, (await busy.GetAsync()).State);

        cluster.Clock.Advance(TimeSpan.FromMinutes(20));
        await Eventually.TrueAsync(async () => (await busy.GetAsync()).State == SessionState.Terminated);
        Assert.Contains("lifetime of 30 minutes", (await busy.GetAsync()).Cause, StringComparison.Ordinal);
        Assert.Equal(ExitReason.Killed, (await hold.GetAsync()).Exit!.Reason);

        // After its retention nothing is left.
        cluster.Clock.Advance(TimeSpan.FromHours(25));
        await Eventually.TrueAsync(() => Task.FromResult(!cluster.Storage.Has("session", idle.Id)));
        await CodeAsync(SandboxErrorCode.NotFound, () => idle.GetAsync());
    }

    [Fact]
    public async Task The_index_keeps_the_newest_thousand_executions_with_their_exits()
    {
        await using var cluster = await SandboxTestCluster.StartAsync(silos: 1);
        var session = await cluster.Client().StartSessionAsync();
        var ids = new List<string>();
        for (var i = 0; i < 22; i++)
        {
            var batch = await Task.WhenAll(Enumerable.Range(0, 50).Select(n => session.StartCommandAsync(["exit", $"{n}"])));
            ids.AddRange(batch.Select(e => e.Id));
            await Eventually.TrueAsync(async () => (await session.ListExecutionsAsync(50)).All(e => e.State == ExecutionState.Ended));
        }

        var listed = await session.ListExecutionsAsync(1000);
        Assert.InRange(listed.Count, 900, 1000);
        Assert.Equal(listed.Count, listed.Select(e => e.Id).Distinct().Count());
        Assert.All(listed, e => Assert.NotNull(e.Exit));
        Assert.Equal(ids.TakeLast(900).Order(), listed.Take(900).Select(e => e.Id).Order());
        await CodeAsync(SandboxErrorCode.NotFound, () => session.GetExecutionAsync(ids[0]));
    }

    private static async Task CodeAsync(SandboxErrorCode code, Func<Task> call) => Assert.Equal(code, (await Assert.ThrowsAsync<SandboxException>(call)).Code);
}
