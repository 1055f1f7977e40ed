using Sandbox.EndToEnd.Tests.Harness;
using Sandbox.TestSupport;
using Xunit;

namespace Sandbox.EndToEnd.Tests.Cluster;

/// <summary>What a server is started with to be one of a cluster, on a database that has the tables.</summary>
internal static class ClusterArguments
{
    public static async Task<string[]> MakeAsync(PostgresServer postgres, RedisServer redis)
    {
        var migrated = await CommandLine.RunAsync(new Dictionary<string, string>(), "/tmp", "db", "migrate", "--connection", postgres.ConnectionString);
        Assert.True(migrated.ExitCode == 0, migrated.Stderr);
        var shared = Directory.CreateTempSubdirectory("sandbox-e2e-shared-").FullName;
        return
        [
            "--redis", redis.ConnectionString, "--postgres", postgres.ConnectionString, "--max-memory", "4096", "--warm-pool", "0",
            "--snapshots", Path.Combine(shared, "snapshots"), "--snapshot-key", Path.Combine(shared, "key"),
        ];
    }
}
