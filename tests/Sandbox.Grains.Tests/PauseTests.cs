using Sandbox.Abstractions;
using Sandbox.Client;
using Sandbox.Grains.Tests.Support;
using Xunit;

namespace Sandbox.Grains.Tests;

/// <summary>Pausing and resuming, on request, by themselves, and when things go wrong.</summary>
public sealed class PauseTests
{
    private static readonly CreateSessionRequest Null = new() { Template = "null", Untrusted = false };

    [Fact]
    public async Task A_paused_session_has_no_machine_and_comes_back_with_variables_files_and_running_executions()
    {
        await using var cluster = await SandboxTestCluster.StartNullAsync(silos: 1);
        var session = await cluster.Client().StartSessionAsync(Null);
        await SetAsync(session, "x", "1");
        await session.StartCodeAsync("y=2").FinishAsync();
        await session.Files.WriteAsync("/a", "kept"u8.ToArray());
        var ticking = await session.StartCommandAsync(["tick", "40", "50"]);
        await using var follower = ticking.ReadOutputAsync().GetAsyncEnumerator();
        Assert.True(await follower.MoveNextAsync());

        var paused = await session.PauseAsync();
        Assert.Equal(SessionState.Paused, paused.State);
        await Eventually.TrueAsync(() => Task.FromResult(
            cluster.Nulls["host-a"].Live.Count == 0 && !File.Exists(Path.Combine(cluster.DataOf("host-a"), "sessions", session.Id, "disk.img"))));
        Assert.Equal(ExecutionState.Running, (await ticking.GetAsync()).State);
        var checkpoint = Assert.Single(await session.ListCheckpointsAsync());
        Assert.Equal((CheckpointKind.Pause, 1), (checkpoint.Kind, checkpoint.Number));
        Assert.Equal([ticking.Id], checkpoint.RunningExecutions);

        var resumed = await session.ResumeAsync();
        Assert.Equal((SessionState.Running, 2L, "restore"), (resumed.State, resumed.Generation, resumed.StartMethod));
        Assert.Empty(resumed.Recoveries);
        Assert.Equal("1\n", await GetAsync(session, "x"));
        Assert.Equal("kept"u8.ToArray(), await session.Files.ReadAsync("/a"));
        var numbers = new List<string> { Text(follower.Current) };
        while (await follower.MoveNextAsync())
        {
            if (follower.Current.Kind == OutputKind.Stdout)
            {
                numbers.Add(Text(follower.Current));
            }
        }

        Assert.Equal(string.Concat(Enumerable.Range(1, 40).Select(i => $"{i}\n")), string.Concat(numbers));
        Assert.Equal(0, (await ticking.WaitForExitAsync()).ExitCode);
        await Eventually.TrueAsync(async () => (await ticking.GetAsync()).State == ExecutionState.Ended);
        var value = await (await session.StartCodeAsync("y")).ReadOutputAsync().FirstAsync(e => e.Kind == OutputKind.Result);
        Assert.Contains("2", Text(value), StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_call_wakes_a_paused_session_unless_it_says_that_it_must_not()
    {
        await using var cluster = await SandboxTestCluster.StartNullAsync(silos: 1);
        var session = await cluster.Client().StartSessionAsync(Null);
        await SetAsync(session, "x", "1");
        await session.PauseAsync();

        var refused = await Assert.ThrowsAsync<SandboxException>(() => session.WithWake(false).StartCommandAsync(["get", "x"]));
        Assert.Equal(SandboxErrorCode.Conflict, refused.Code);
        Assert.Contains("paused", refused.Message, StringComparison.Ordinal);
        await Assert.ThrowsAsync<SandboxException>(() => session.WithWake(false).GetMetricsAsync());
        await session.ListExecutionsAsync();
        Assert.Equal(SessionState.Paused, (await session.GetAsync()).State);

        Assert.Equal("1\n", await GetAsync(session, "x"));
        Assert.Equal(SessionState.Running, (await session.GetAsync()).State);
    }

    [Fact]
    public async Task An_idle_session_is_paused_and_stays_so_for_days_and_a_server_restart()
    {
        await using var cluster = await SandboxTestCluster.StartNullAsync(silos: 1);
        var session = await cluster.Client().StartSessionAsync(Null with { IdleTimeout = TimeSpan.FromMinutes(5) });
        await SetAsync(session, "x", "1");
        cluster.Clock.Advance(TimeSpan.FromMinutes(6));
        await Eventually.TrueAsync(async () => (await session.GetAsync()).State == SessionState.Paused);
        Assert.Contains("idle for 5 minutes", (await session.GetAsync()).Cause, StringComparison.Ordinal);

        cluster.Clock.Advance(TimeSpan.FromDays(2));
        await cluster.RestartAsync();
        var again = cluster.Client().GetSession(session.Id);
        Assert.Equal(SessionState.Paused, (await again.GetAsync()).State);
        Assert.Equal("1\n", await GetAsync(again, "x"));
    }

    [Fact]
    public async Task An_idle_session_that_was_to_end_ends_and_leaves_no_snapshot()
    {
        await using var cluster = await SandboxTestCluster.StartNullAsync(silos: 1);
        var session = await cluster.Client().StartSessionAsync(Null with { IdleTimeout = TimeSpan.FromMinutes(5), IdleAction = IdleAction.Terminate });
        await session.CheckpointAsync("one");
        cluster.Clock.Advance(TimeSpan.FromMinutes(6));
        await Eventually.TrueAsync(async () => (await session.GetAsync()).State == SessionState.Terminated);
        await Eventually.TrueAsync(() => Task.FromResult(cluster.Blobs.Snapshots.Count == 0));
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_store_that_fails_leaves_the_session_running_and_says_why(bool full)
    {
        await using var cluster = await SandboxTestCluster.StartNullAsync(silos: 1);
        var session = await cluster.Client().StartSessionAsync(Null);
        await SetAsync(session, "x", "1");
        var ticking = await session.StartCommandAsync(["tick", "20", "30"]);
        cluster.Blobs.BeforePut = name => name.Contains("/packs/", StringComparison.Ordinal) ? throw (full ? TestBlobs.NoSpace() : TestBlobs.Away()) : Task.CompletedTask;

        var failure = await Assert.ThrowsAsync<SandboxException>(() => session.PauseAsync());
        Assert.Contains(full ? "full" : "does not answer", failure.Message, StringComparison.Ordinal);
        var info = await session.GetAsync();
        Assert.Equal((SessionState.Running, 1L), (info.State, info.Generation));
        Assert.Contains("could not be paused", info.Cause, StringComparison.Ordinal);
        Assert.Equal("1\n", await GetAsync(session, "x"));
        Assert.Equal(20, (await ticking.CollectAsync()).Stdout.Split('\n', StringSplitOptions.RemoveEmptyEntries).Length);

        cluster.Blobs.BeforePut = _ => Task.CompletedTask;
        Assert.Equal(SessionState.Paused, (await session.PauseAsync()).State);
        Assert.Single(cluster.Blobs.Snapshots);
        Assert.Equal("1\n", await GetAsync(session, "x"));
    }

    [Fact]
    public async Task Pausing_what_is_paused_changes_nothing_and_resuming_what_runs_is_refused()
    {
        await using var cluster = await SandboxTestCluster.StartNullAsync(silos: 1);
        var session = await cluster.Client().StartSessionAsync(Null);
        Assert.Equal(SandboxErrorCode.Conflict, (await Assert.ThrowsAsync<SandboxException>(() => session.ResumeAsync())).Code);
        await session.PauseAsync();
        await session.PauseAsync();
        Assert.Single(await session.ListCheckpointsAsync());
        await session.TerminateAsync();
        Assert.Equal(SandboxErrorCode.Conflict, (await Assert.ThrowsAsync<SandboxException>(() => session.ResumeAsync())).Code);
        Assert.Equal(SandboxErrorCode.Conflict, (await Assert.ThrowsAsync<SandboxException>(() => session.PauseAsync())).Code);
        Assert.Empty(cluster.Blobs.Snapshots);
    }

    [Fact]
    public async Task Two_callers_that_pause_and_resume_at_once_are_both_told_the_truth()
    {
        await using var cluster = await SandboxTestCluster.StartNullAsync(silos: 1);
        var session = await cluster.Client().StartSessionAsync(Null);
        var held = new TaskCompletionSource();
        var reached = new TaskCompletionSource();
        cluster.Blobs.BeforePut = name =>
        {
            reached.TrySetResult();
            return name.Contains("/snapshots/", StringComparison.Ordinal) ? held.Task : Task.CompletedTask;
        };
        var pausing = session.PauseAsync();
        await reached.Task;
        var refused = await Assert.ThrowsAsync<SandboxException>(() => session.ResumeAsync());
        Assert.Equal(SandboxErrorCode.Conflict, refused.Code);
        Assert.Contains("pausing", refused.Message, StringComparison.Ordinal);
        held.SetResult();
        Assert.Equal(SessionState.Paused, (await pausing).State);
        var resumed = await Task.WhenAll(Enumerable.Range(0, 4).Select(_ => Task.Run(async () =>
        {
            try
            {
                return (await session.ResumeAsync()).Generation;
            }
            catch (SandboxException e) when (e.Code == SandboxErrorCode.Conflict && e.Message.Contains("is running", StringComparison.Ordinal))
            {
                return 2L;
            }
        })));
        Assert.All(resumed, g => Assert.Equal(2, g));
        Assert.False(File.Exists(Path.Combine(cluster.LiveDirectory, "violations.log")));
    }

    [Fact]
    public async Task A_server_that_stops_in_the_middle_of_a_pause_finishes_it_after_its_restart()
    {
        await using var cluster = await SandboxTestCluster.StartNullAsync(silos: 1);
        var session = await cluster.Client().StartSessionAsync(Null);
        await SetAsync(session, "x", "1");
        var reached = new TaskCompletionSource();
        cluster.Storage.BeforeWrite = (state, _) =>
        {
            // The snapshot is committed; the word of it never reaches the session's state.
            if (state == "session" && cluster.Blobs.Snapshots.Count == 1)
            {
                reached.TrySetResult();
                throw new IOException("gone");
            }

            return Task.CompletedTask;
        };
        var pausing = session.PauseAsync();
        await reached.Task;
        await cluster.KillAsync("host-a");
        cluster.Storage.BeforeWrite = (_, _) => Task.CompletedTask;
        await Assert.ThrowsAnyAsync<Exception>(() => pausing.WaitAsync(TimeSpan.FromMilliseconds(1)));
        await cluster.RestartAsync();

        var again = cluster.Client().GetSession(session.Id);
        await Eventually.TrueAsync(async () => (await again.GetAsync()).State == SessionState.Paused);
        Assert.Equal("1\n", await GetAsync(again, "x"));
        Assert.Empty((await again.GetAsync()).Recoveries);
    }

    internal static Task<(string Stdout, string Stderr, ExecutionExit Exit)> SetAsync(SandboxSession session, string name, string value) => session.StartCommandAsync(["set", name, value]).FinishAsync();

    internal static async Task<string> GetAsync(SandboxSession session, string name) => (await session.StartCommandAsync(["get", name]).FinishAsync()).Stdout;

    internal static string Text(OutputEvent e) => System.Text.Encoding.UTF8.GetString(e.Data);
}

/// <summary>Shorter words for tests.</summary>
internal static class ExecutionTasks
{
    public static async Task<(string Stdout, string Stderr, ExecutionExit Exit)> FinishAsync(this Task<SandboxExecution> start) => await (await start).CollectAsync();
}
