using Npgsql;
using Sandbox.TestSupport;
using Xunit;

namespace Sandbox.Storage.Tests;

/// <summary>The servers of tests do not stay behind.</summary>
public sealed class ServerHarnessTests
{
    [Fact]
    public async Task PostgreSQL_keeps_its_data_over_a_crash_and_leaves_nothing_in_the_end()
    {
        Assert.SkipWhen(PostgresServer.Missing is not null, PostgresServer.Missing ?? "");
        string directory;
        int process;
        await using (var server = await PostgresServer.StartAsync())
        {
            directory = server.DataDirectory;
            await QueryAsync(server, "CREATE TABLE kept AS SELECT 7 AS number");

            await server.CrashAsync();
            await server.StartAgainAsync();

            NpgsqlConnection.ClearAllPools();
            Assert.Equal(7, await QueryAsync(server, "SELECT number FROM kept"));
            process = server.ProcessId;
        }

        Assert.False(Directory.Exists(directory));
        Assert.False(Directory.Exists($"/proc/{process}"));
    }

    [Fact]
    public async Task Redis_answers_and_leaves_nothing()
    {
        Assert.SkipWhen(RedisServer.Missing is not null, RedisServer.Missing ?? "");
        int process;
        await using (var server = await RedisServer.StartAsync())
        {
            process = server.ProcessId;
            Assert.True(Directory.Exists($"/proc/{process}"));
        }

        Assert.False(Directory.Exists($"/proc/{process}"));
    }

    [Fact]
    public async Task A_process_that_fails_says_what_it_wrote()
    {
        var failure = await Assert.ThrowsAsync<InvalidOperationException>(() => ChildProcess.RunAsync(["sh", "-c", "echo its last words >&2; exit 3"]));

        Assert.Contains("ended with 3", failure.Message, StringComparison.Ordinal);
        Assert.Contains("its last words", failure.Message, StringComparison.Ordinal);
    }

    private static async Task<object?> QueryAsync(PostgresServer server, string sql)
    {
        await using var connection = new NpgsqlConnection(server.ConnectionString);
        await connection.OpenAsync();
#pragma warning disable CA2100
        await using var command = new NpgsqlCommand(sql, connection);
#pragma warning restore CA2100
        return await command.ExecuteScalarAsync();
    }
}
