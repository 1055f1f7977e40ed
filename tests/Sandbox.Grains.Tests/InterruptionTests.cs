using Sandbox.Abstractions;
using Sandbox.Grains.Tests.Support;
using Xunit;
using static Sandbox.Grains.Tests.PauseTests;

namespace Sandbox.Grains.Tests;

/// <summary>What servers killed at random moments have found (Sandbox.EndToEnd.Tests, Crash), each at the one moment that shows it.</summary>
public sealed class InterruptionTests
{
    private static readonly CreateSessionRequest Null = new() { Template = "null", Untrusted = false };

    [Fact]
    public async Task Restarts_of_a_server_are_no_crash_loop_of_its_sessions()
    {
        await using var cluster = await SandboxTestCluster.StartNullAsync(silos: 1);
        var id = (await cluster.Client().StartSessionAsync(Null)).Id;
        for (var restart = 1; restart <= 4; restart++)
        {
            await cluster.RestartAsync();
            var session = cluster.Client().GetSession(id);
            await SetAsync(session, "x", "1");
            Assert.Equal(restart, (await session.GetAsync()).Recoveries.Count);
        }
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task A_session_that_is_ended_while_it_is_saved_leaves_no_snapshot(bool pause)
    {
        await using var cluster = await SandboxTestCluster.StartNullAsync(silos: 1);
        var session = await cluster.Client().StartSessionAsync(Null);
        var (reached, held) = (new TaskCompletionSource(), new TaskCompletionSource());
        cluster.Blobs.BeforePut = name =>
        {
            if (!name.Contains("/snapshots/", StringComparison.Ordinal))
            {
                return Task.CompletedTask;
            }

            reached.TrySetResult();
            return held.Task;
        };
        Task saving = pause ? session.PauseAsync() : session.CheckpointAsync("one");
        await reached.Task;
        var ending = session.TerminateAsync();

        // The machine goes only when the save has come to its end. Were nobody to wait for that, this would be over, and the snapshot committed after its session has forgotten it.
        await Task.WhenAny(ending, Task.Delay(TimeSpan.FromSeconds(2)));
        Assert.False(ending.IsCompleted);
        held.SetResult();
        await ending;
        await saving.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing | ConfigureAwaitOptions.ContinueOnCapturedContext);
        await Eventually.TrueAsync(() => Task.FromResult(cluster.Blobs.Snapshots.Count == 0));
        Assert.Equal(SessionState.Terminated, (await session.GetAsync()).State);
    }

    [Fact]
    public async Task An_ended_session_leaves_the_index_also_when_that_failed_at_first()
    {
        await using var cluster = await SandboxTestCluster.StartNullAsync(silos: 1);
        var session = await cluster.Client().StartSessionAsync(Null);
        cluster.Storage.BeforeWrite = (state, _) => state == "session-index" ? throw new IOException("gone") : Task.CompletedTask;
        await session.TerminateAsync();
        Assert.Single(await ListedAsync(cluster, session.Id));

        cluster.Storage.BeforeWrite = (_, _) => Task.CompletedTask;
        await Eventually.TrueAsync(async () =>
        {
            cluster.Clock.Advance(TimeSpan.FromMinutes(1));
            return (await ListedAsync(cluster, session.Id)).Count == 0;
        });
        Assert.Equal(SessionState.Terminated, (await session.GetAsync()).State);
    }

    [Fact]
    public async Task An_entry_of_a_session_that_a_crash_kept_from_being_made_leaves_the_index()
    {
        await using var cluster = await SandboxTestCluster.StartNullAsync(silos: 1, sessions: o => o.IndexCheckDelay = TimeSpan.FromMilliseconds(200));
        var never = new TaskCompletionSource();
        cluster.Storage.BeforeWrite = (state, _) => state == "session" ? never.Task : Task.CompletedTask;
        var id = SandboxIds.NewSession();
        TenantContext.Set("acme");
        _ = cluster.Grains.GetGrain<ISessionGrain>(id).CreateAsync(Null, id);
        await Eventually.TrueAsync(async () => (await ListedAsync(cluster, id)).Count == 1);
        await cluster.KillAsync("host-a");
        cluster.Storage.BeforeWrite = (_, _) => Task.CompletedTask;
        await cluster.RestartAsync();

        await Eventually.TrueAsync(async () => (await ListedAsync(cluster, id)).Count == 0);
        Assert.Equal(SandboxErrorCode.NotFound, (await Assert.ThrowsAsync<SandboxException>(() => cluster.Client().GetSession(id).GetAsync())).Code);
    }

    private static Task<IReadOnlyList<SessionIndexEntry>> ListedAsync(SandboxTestCluster cluster, string id)
    {
        TenantContext.Set("acme");
        return cluster.Grains.GetGrain<ISessionIndexGrain>($"acme/{SandboxIds.ShardOf(id)}").ListAsync();
    }
}
