using Sandbox.Abstractions;
using Sandbox.Grains.Tests.Support;
using Xunit;

namespace Sandbox.Grains.Tests;

public sealed class LifecycleTests
{
    [Fact]
    public async Task A_session_is_created_runs_a_command_and_is_terminated()
    {
        await using var cluster = await SandboxTestCluster.StartAsync();
        var session = await cluster.Client().StartSessionAsync();
        var info = await session.GetAsync();
        Assert.Equal(SessionState.Running, info.State);
        Assert.Equal(1, info.Generation);
        Assert.Equal("acme", info.Tenant);
        var backend = cluster.BackendOf(info);
        Assert.Equal(512, backend.Of(session.Id).Spec.MemoryMiB);

        var execution = await session.StartCommandAsync(["echo", "hello", "world"]);
        var (stdout, _, exit) = await execution.CollectAsync();
        Assert.Equal("hello world\n", stdout);
        Assert.Equal(ExitReason.Exited, exit.Reason);
        Assert.Equal(0, exit.ExitCode);

        var ended = await session.TerminateAsync();
        Assert.Equal(SessionState.Terminated, ended.State);
        Assert.Empty(backend.Live);
        Assert.False(Directory.Exists(Path.Combine(cluster.DataOf(info.HostId!), "sessions", session.Id)));
        Assert.Equal(SessionState.Terminated, (await session.GetAsync()).State);
        Assert.Empty(await cluster.Client().ListSessionsAsync());
    }
}
