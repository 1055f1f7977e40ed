using Sandbox.EndToEnd.Tests.Cluster;
using Sandbox.TestSupport;
using Xunit;

namespace Sandbox.EndToEnd.Tests.Crash;

/// <summary>As <see cref="RandomKillTests"/>, on PostgreSQL: what its writers had on their way together when they were killed was acknowledged to nobody, and is there whole or not at all.</summary>
public sealed class RandomKillClusterTests(ITestOutputHelper output)
{
    [Fact]
    public async Task Servers_killed_at_random_moments_lose_nothing_that_was_acknowledged_and_leave_nothing_behind()
    {
        Assert.SkipWhen((PostgresServer.Missing ?? RedisServer.Missing) is not null, PostgresServer.Missing ?? RedisServer.Missing ?? "");
        await using var postgres = await PostgresServer.StartAsync();
        await using var redis = await RedisServer.StartAsync();
        await ClusterArguments.MakeAsync(postgres, redis);
        await using var target = new NullClusterTarget(postgres.ConnectionString, redis.ConnectionString);
        await new CrashRun(target, CrashSettings.Seed(), output.WriteLine).RunAsync(CrashSettings.Kills(20));
    }
}
