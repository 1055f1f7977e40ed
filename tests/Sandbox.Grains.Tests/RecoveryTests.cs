using Sandbox.Abstractions;
using Sandbox.Client;
using Sandbox.Grains.Tests.Support;
using Xunit;

namespace Sandbox.Grains.Tests;

/// <summary>What happens when a machine, a host or the whole server goes away under a session.</summary>
public sealed class RecoveryTests
{
    [Fact]
    public async Task A_session_whose_microvm_dies_comes_back_with_its_files_and_says_what_was_lost()
    {
        await using var cluster = await SandboxTestCluster.StartAsync();
        var session = await cluster.Client().StartSessionAsync();
        var before = await session.GetAsync();
        await session.Files.WriteAsync("/home/user/a.txt", "kept"u8.ToArray());
        var running = await session.StartCommandAsync(["hold"]);
        await FirstEventAsync(running);

        cluster.BackendOf(before).Of(session.Id).Crash("the VMM was killed by the kernel: host memory limit of 400 MiB");
        var exit = await running.WaitForExitAsync();
        Assert.Equal(ExitReason.Lost, exit.Reason);
        Assert.Contains("host memory limit of 400 MiB", exit.Message, StringComparison.Ordinal);

        Assert.Equal("kept"u8.ToArray(), await session.Files.ReadAsync("/home/user/a.txt"));
        var after = await session.WaitUntilRunningAsync();
        Assert.Equal(before.Generation + 1, after.Generation);
        Assert.Equal(before.HostId, after.HostId);
        var recovery = Assert.Single(after.Recoveries);
        Assert.Equal("files on disk", recovery.Kept);
        Assert.Contains("processes", recovery.Lost, StringComparison.Ordinal);
        Assert.Contains("host memory limit", recovery.Reason, StringComparison.Ordinal);
        var info = await running.GetAsync();
        Assert.Equal(ExitReason.Lost, info.Exit!.Reason);
        Assert.Equal("again\n", (await (await session.StartCommandAsync(["echo", "again"])).CollectAsync()).Stdout);
    }

    [Fact]
    public async Task A_session_survives_a_restart_of_the_server()
    {
        await using var cluster = await SandboxTestCluster.StartAsync(silos: 1);
        var session = await cluster.Client().StartSessionAsync();
        await session.Files.WriteAsync("/a", "kept"u8.ToArray());
        var done = await session.StartCommandAsync(["exit", "3"]);
        Assert.Equal(3, (await done.WaitForExitAsync()).ExitCode);
        await ExitStoredAsync(done);
        var running = await session.StartCommandAsync(["hold"]);
        await FirstEventAsync(running);

        await cluster.RestartAsync();

        var again = cluster.Client().GetSession(session.Id);
        Assert.Equal("kept"u8.ToArray(), await again.Files.ReadAsync("/a"));
        var info = await again.WaitUntilRunningAsync();
        Assert.Equal(2, info.Generation);
        Assert.Single(info.Recoveries);
        Assert.Equal(3, (await again.GetExecutionAsync(done.Id)).Started.Exit!.ExitCode);
        var lost = await again.GetExecutionAsync(running.Id);
        Assert.Equal(ExitReason.Lost, lost.Started.Exit!.Reason);
        var events = new List<OutputEvent>();
        await foreach (var e in lost.ReadOutputAsync())
        {
            events.Add(e);
        }

        Assert.Equal([1L, 2L], events.Select(e => e.Seq));
        Assert.Equal(OutputKind.Exit, events[^1].Kind);
    }

    [Fact]
    public async Task A_session_whose_microvms_keep_dying_fails_with_the_cause()
    {
        await using var cluster = await SandboxTestCluster.StartAsync(silos: 1);
        var session = await cluster.Client().StartSessionAsync();
        for (var i = 1; i <= 3; i++)
        {
            var info = await session.WaitUntilRunningAsync();
            Assert.Equal(i, info.Generation);
            cluster.BackendOf(info).Of(session.Id).Crash("kernel panic");
            await Eventually.TrueAsync(async () => await session.GetAsync() is { } now && (now.State == SessionState.Failed || now.Generation > i));
        }

        var failed = await session.GetAsync();
        Assert.Equal(SessionState.Failed, failed.State);
        Assert.Contains("kernel panic", failed.Cause, StringComparison.Ordinal);
        Assert.Empty(cluster.BackendOf(failed).Live);
        var e = await Assert.ThrowsAsync<SandboxException>(() => session.StartCommandAsync(["echo"]));
        Assert.Equal(SandboxErrorCode.Conflict, e.Code);
    }

    [Fact]
    public async Task A_session_whose_host_does_not_come_back_fails_and_says_so()
    {
        await using var cluster = await SandboxTestCluster.StartAsync(silos: 2, o => o.HostReturnTimeout = TimeSpan.FromSeconds(20));
        var client = cluster.Client();
        var session = await client.StartSessionAsync();
        var info = await session.GetAsync();
        await cluster.KillAsync(info.HostId!);
        var start = session.StartCommandAsync(["echo"]);
        await Eventually.TrueAsync(async () => (await session.GetAsync()).State == SessionState.Resuming);
        await Eventually.TrueAsync(async () =>
        {
            var state = (await session.GetAsync()).State;
            if (state == SessionState.Resuming)
            {
                cluster.Clock.Advance(TimeSpan.FromMilliseconds(500));
            }

            return state == SessionState.Failed;
        });
        var failed = await session.GetAsync();
        Assert.Contains(info.HostId!, failed.Cause, StringComparison.Ordinal);
        await Assert.ThrowsAsync<SandboxException>(() => start);

        var other = await client.StartSessionAsync();
        Assert.NotEqual(info.HostId, (await other.GetAsync()).HostId);
    }

    [Fact]
    public async Task A_start_that_was_interrupted_goes_on_after_a_restart_with_a_new_generation()
    {
        await using var cluster = await SandboxTestCluster.StartAsync(silos: 1);
        var entered = new TaskCompletionSource();
        cluster.Backends["host-a"].BeforeStart = async (_, ct) =>
        {
            entered.TrySetResult();
            await Task.Delay(Timeout.Infinite, ct);
        };
        var session = await cluster.Client().CreateSessionAsync();
        await entered.Task.WaitAsync(TimeSpan.FromSeconds(60));
        Assert.Equal(SessionState.Creating, (await session.GetAsync()).State);
        cluster.Backends["host-a"].BeforeStart = (_, _) => Task.CompletedTask;

        await cluster.RestartAsync();

        var info = await cluster.Client().GetSession(session.Id).WaitUntilRunningAsync();
        Assert.True(info.Generation > 1);
        Assert.Equal(1, cluster.Backends["host-a"].MostForOneSession);
    }

    private static async Task FirstEventAsync(SandboxExecution execution)
    {
        await foreach (var e in execution.ReadOutputAsync())
        {
            Assert.Equal(1, e.Seq);
            return;
        }
    }

    private static Task ExitStoredAsync(SandboxExecution execution) => Eventually.TrueAsync(async () => (await execution.GetAsync()).Exit is not null);
}
