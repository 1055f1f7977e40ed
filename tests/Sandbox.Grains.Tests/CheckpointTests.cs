using Sandbox.Abstractions;
using Sandbox.Client;
using Sandbox.Grains.Tests.Support;
using Xunit;
using static Sandbox.Grains.Tests.PauseTests;

namespace Sandbox.Grains.Tests;

/// <summary>Checkpoints, going back to them, forks, and going on from them on another host.</summary>
public sealed class CheckpointTests
{
    private static readonly CreateSessionRequest Null = new() { Template = "null", Untrusted = false };

    [Fact]
    public async Task A_session_goes_back_to_a_checkpoint_in_place()
    {
        await using var cluster = await SandboxTestCluster.StartNullAsync(silos: 1);
        var session = await cluster.Client().StartSessionAsync(Null);
        await SetAsync(session, "x", "before");
        var ticking = await session.StartCommandAsync(["tick", "100000", "20"]);
        await FirstAsync(ticking);
        var checkpoint = await session.CheckpointAsync("good");
        Assert.Equal(("good", CheckpointKind.Named, 1), (checkpoint.Name, checkpoint.Kind, checkpoint.Number));
        await SetAsync(session, "x", "after");
        var since = await session.StartCommandAsync(["echo", "since"]).FinishAsync();

        var back = await session.RollbackAsync(checkpoint.Id);
        Assert.Equal((SessionState.Running, 2L), (back.State, back.Generation));
        Assert.Contains("rolled back to checkpoint 1", back.Cause, StringComparison.Ordinal);
        Assert.Equal("before\n", await GetAsync(session, "x"));
        Assert.Equal("since\n", since.Stdout);

        // The execution that ran at the checkpoint has an end, and goes on under another id.
        var old = await ticking.GetAsync();
        Assert.Equal((ExecutionState.Ended, ExitReason.Lost), (old.State, old.Exit!.Reason));
        Assert.Contains("rolled back", old.Exit.Message, StringComparison.Ordinal);
        var next = Assert.Single(await session.ListExecutionsAsync(), e => e.ContinuedFrom == ticking.Id);
        Assert.Equal(ExecutionState.Running, next.State);
        var going = await session.GetExecutionAsync(next.Id);
        await using var events = going.ReadOutputAsync().GetAsyncEnumerator();
        Assert.True(await events.MoveNextAsync());
        Assert.Equal(OutputKind.Notice, events.Current.Kind);
        Assert.Contains(ticking.Id, Text(events.Current), StringComparison.Ordinal);
        Assert.True(await events.MoveNextAsync());
        await going.SignalAsync(9);
        Assert.Equal(ExitReason.Killed, (await going.WaitForExitAsync()).Reason);
    }

    [Fact]
    public async Task Going_back_to_an_unknown_or_damaged_checkpoint_changes_nothing()
    {
        await using var cluster = await SandboxTestCluster.StartNullAsync(silos: 1);
        var session = await cluster.Client().StartSessionAsync(Null);
        await SetAsync(session, "x", "1");
        var unknown = await Assert.ThrowsAsync<SandboxException>(() => session.RollbackAsync(SandboxIds.NewCheckpoint()));
        Assert.Equal(SandboxErrorCode.NotFound, unknown.Code);

        var checkpoint = await session.CheckpointAsync("one");
        foreach (var pack in cluster.Blobs.Files("packs"))
        {
            var bytes = await File.ReadAllBytesAsync(pack);
            bytes[bytes.Length / 2] ^= 1;
            await File.WriteAllBytesAsync(pack, bytes);
        }

        var damaged = await Assert.ThrowsAsync<SandboxException>(() => session.RollbackAsync(checkpoint.Id));
        Assert.Contains(checkpoint.Id, damaged.Message, StringComparison.Ordinal);
        var info = await session.GetAsync();
        Assert.Equal((SessionState.Running, 1L), (info.State, info.Generation));
        Assert.Equal("1\n", await GetAsync(session, "x"));
    }

    [Fact]
    public async Task A_resume_from_a_damaged_snapshot_says_so_and_the_checkpoint_before_it_still_serves()
    {
        await using var cluster = await SandboxTestCluster.StartNullAsync(silos: 1);
        var session = await cluster.Client().StartSessionAsync(Null);
        await SetAsync(session, "x", "old");
        var good = await session.CheckpointAsync("good");
        await SetAsync(session, "x", "new");
        var packs = cluster.Blobs.Files("packs").ToHashSet();
        await session.PauseAsync();
        foreach (var pack in cluster.Blobs.Files("packs").Where(p => !packs.Contains(p)))
        {
            File.Delete(pack);
        }

        var failure = await Assert.ThrowsAsync<SandboxException>(() => session.ResumeAsync());
        var bad = (await session.ListCheckpointsAsync())[^1];
        Assert.Contains(bad.Id, failure.Message, StringComparison.Ordinal);
        var info = await session.GetAsync();
        Assert.Equal(SessionState.Paused, info.State);
        Assert.Contains("could not be resumed", info.Cause, StringComparison.Ordinal);
        Assert.Empty(cluster.Nulls["host-a"].Live);

        Assert.Equal(SessionState.Running, (await session.RollbackAsync(good.Id)).State);
        Assert.Equal("old\n", await GetAsync(session, "x"));
    }

    [Fact]
    public async Task Forks_are_sessions_of_their_own()
    {
        await using var cluster = await SandboxTestCluster.StartNullAsync();
        var session = await cluster.Client().StartSessionAsync(Null with { Metadata = new() { ["a"] = "b" } });
        await SetAsync(session, "x", "shared");
        var ticking = await session.StartCommandAsync(["tick", "100000", "20"]);
        await FirstAsync(ticking);
        var forks = await session.ForkAsync(5);
        Assert.Equal(5, forks.Select(f => f.Id).Distinct().Count());
        await Task.WhenAll(forks.Select((f, i) => SetAsync(f, "x", $"fork {i}")));
        Assert.Equal("shared\n", await GetAsync(session, "x"));
        Assert.Equal(ExecutionState.Running, (await ticking.GetAsync()).State);
        for (var i = 0; i < forks.Count; i++)
        {
            Assert.Equal($"fork {i}\n", await GetAsync(forks[i], "x"));
            var info = await forks[i].GetAsync();
            Assert.Equal(session.Id, info.Origin!.SessionId);
            Assert.Equal("b", info.Metadata["a"]);
            Assert.Equal("restore", info.StartMethod);
            var going = Assert.Single(await forks[i].ListExecutionsAsync(), e => e.ContinuedFrom is not null);
            Assert.Equal((ticking.Id, ExecutionState.Running), (going.ContinuedFrom, going.State));
        }

        // Without its parent, and without the parent's snapshots, a fork lives on, and can be paused and resumed.
        await session.TerminateAsync();
        await forks[0].PauseAsync();
        Assert.Equal("fork 0\n", await GetAsync(forks[0], "x"));
        await Task.WhenAll(forks.Select(f => f.TerminateAsync()));
        await Eventually.TrueAsync(() => Task.FromResult(cluster.Blobs.Snapshots.Count == 0));
        Assert.False(File.Exists(Path.Combine(cluster.LiveDirectory, "violations.log")));
    }

    [Fact]
    public async Task What_cannot_be_forked_or_checkpointed_is_refused_precisely()
    {
        await using var cluster = await SandboxTestCluster.StartNullAsync(silos: 1);
        var client = cluster.Client();
        var session = await client.StartSessionAsync(Null);
        await session.CheckpointAsync("one");
        Assert.Equal(SandboxErrorCode.AlreadyExists, (await Assert.ThrowsAsync<SandboxException>(() => session.CheckpointAsync("one"))).Code);
        Assert.Equal("name", (await Assert.ThrowsAsync<SandboxException>(() => session.CheckpointAsync(" x"))).Field);
        Assert.Equal("count", (await Assert.ThrowsAsync<SandboxException>(() => session.ForkAsync(101))).Field);
        await session.PauseAsync();
        Assert.Equal(SandboxErrorCode.Conflict, (await Assert.ThrowsAsync<SandboxException>(() => session.ForkAsync(1))).Code);
        Assert.Equal(SandboxErrorCode.Conflict, (await Assert.ThrowsAsync<SandboxException>(() => session.CheckpointAsync("two"))).Code);
        var pause = (await session.ListCheckpointsAsync())[^1];
        Assert.Equal(SandboxErrorCode.Conflict, (await Assert.ThrowsAsync<SandboxException>(() => session.DeleteCheckpointAsync(pause.Id))).Code);

        // What is paused can still begin others.
        var begin = new CreateSessionRequest { From = new CheckpointReference(session.Id, pause.Id), Untrusted = false };
        Assert.Equal("memoryMiB", (await Assert.ThrowsAsync<SandboxException>(() => client.StartSessionAsync(begin with { MemoryMiB = 4096 }))).Field);
        Assert.Equal("from", (await Assert.ThrowsAsync<SandboxException>(() => cluster.Client("other").StartSessionAsync(begin))).Field);
        var begun = await client.StartSessionAsync(begin);
        Assert.Equal(session.Id, (await begun.GetAsync()).Origin!.SessionId);
        Assert.Equal(SessionState.Paused, (await session.GetAsync()).State);
    }

    [Fact]
    public async Task A_paused_session_is_resumed_on_another_host_where_its_own_is_gone()
    {
        await using var cluster = await SandboxTestCluster.StartNullAsync();
        var session = await cluster.Client().StartSessionAsync(Null);
        await SetAsync(session, "x", "1");
        var done = await session.StartCommandAsync(["echo", "told"]);
        await done.CollectAsync();
        var ticking = await session.StartCommandAsync(["tick", "30", "30"]);
        await FirstAsync(ticking);
        var before = (await session.PauseAsync()).HostId!;
        var read = ticking.CollectAsync();
        await cluster.KillAsync(before);

        var resumed = await session.ResumeAsync();
        Assert.NotEqual(before, resumed.HostId);
        Assert.Equal("1\n", await GetAsync(session, "x"));
        Assert.Equal(string.Concat(Enumerable.Range(1, 30).Select(i => $"{i}\n")), (await read).Stdout);
        Assert.Equal("told\n", (await (await session.GetExecutionAsync(done.Id)).CollectAsync()).Stdout);
    }

    [Fact]
    public async Task A_session_whose_host_dies_goes_on_elsewhere_from_its_last_checkpoint_and_says_so()
    {
        await using var cluster = await SandboxTestCluster.StartNullAsync(sessions: o => (o.HostLossTimeout, o.LivenessPeriod) = (TimeSpan.FromSeconds(1), TimeSpan.FromSeconds(1)));
        var session = await cluster.Client().StartSessionAsync(Null with { Checkpoints = new CheckpointPolicy { AfterEachExecution = true } });
        await SetAsync(session, "x", "saved");
        await Eventually.TrueAsync(async () => (await session.ListCheckpointsAsync()).Count == 1);
        var before = await session.GetAsync();
        await cluster.KillAsync(before.HostId!);

        await Eventually.TrueAsync(async () =>
        {
            cluster.Clock.Advance(TimeSpan.FromMilliseconds(500));
            return await session.GetAsync() is { State: SessionState.Running } now && now.HostId != before.HostId;
        });
        Assert.Equal("saved\n", await GetAsync(session, "x"));
        var info = await session.GetAsync();
        var recovery = Assert.Single(info.Recoveries);
        Assert.Equal(1, recovery.Checkpoint);
        Assert.Contains("checkpoint 1", recovery.Kept, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Policies_take_checkpoints_and_only_the_newest_are_kept()
    {
        await using var cluster = await SandboxTestCluster.StartNullAsync(silos: 1);
        var session = await cluster.Client().StartSessionAsync(Null with { IdleTimeout = TimeSpan.FromDays(1), Checkpoints = new CheckpointPolicy { Every = TimeSpan.FromMinutes(1), OnIdle = true } });
        for (var number = 1; number <= 3; number++)
        {
            cluster.Clock.Advance(TimeSpan.FromSeconds(1));
            await SetAsync(session, "x", $"{number}");

            // The session hears of the end of an execution a little after its caller: time goes on until it has been idle for long enough.
            await Eventually.TrueAsync(async () =>
            {
                cluster.Clock.Advance(TimeSpan.FromSeconds(1));
                return await session.ListCheckpointsAsync() is [.., var last] && last.Number == number;
            });
        }

        await Eventually.TrueAsync(async () => (await session.ListCheckpointsAsync()).Select(c => c.Number).SequenceEqual([2, 3]));
        Assert.All(await session.ListCheckpointsAsync(), c => Assert.Equal(CheckpointKind.Automatic, c.Kind));
        await Eventually.TrueAsync(() => Task.FromResult(cluster.Blobs.Snapshots.Count == 2));

        // Nothing has happened since: nothing is saved.
        cluster.Clock.Advance(TimeSpan.FromMinutes(10));
        await session.GetAsync();
        Assert.Equal(3, (await session.ListCheckpointsAsync())[^1].Number);
    }

    private static async Task FirstAsync(SandboxExecution execution)
    {
        await foreach (var _ in execution.ReadOutputAsync())
        {
            return;
        }
    }
}
