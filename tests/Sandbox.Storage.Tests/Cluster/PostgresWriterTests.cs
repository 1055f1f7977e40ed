using Npgsql;
using Sandbox.Storage.Cluster;
using Xunit;

namespace Sandbox.Storage.Tests.Cluster;

/// <summary>Statements that are sent together, as seen by those who wait for one each.</summary>
public sealed class PostgresWriterTests(PostgresDatabase database) : IClassFixture<PostgresDatabase>
{
    private const string Insert = "INSERT INTO grain_state (service, provider, name, grain, version, payload) VALUES ('s', 'p', $1, $2, $3, '') ON CONFLICT DO NOTHING RETURNING version";

    [Fact]
    public async Task Each_of_many_at_once_gets_its_own_answer_and_all_are_there()
    {
        await using var source = Open();
        var writer = new PostgresWriter(source);

        var answers = await Task.WhenAll(Enumerable.Range(0, 1000).Select(i => writer.WriteAsync(Insert, Text("many"), Text($"{i}"), Version(i))));

        Assert.Equal(Enumerable.Range(0, 1000).Select(i => (object?)(long)i), answers);
        Assert.Equal(1000L, await database.QueryAsync("SELECT count(*) FROM grain_state WHERE name = 'many'"));
    }

    [Fact]
    public async Task One_without_a_row_says_so_between_others_that_have_one()
    {
        await using var source = Open();
        var writer = new PostgresWriter(source);
        await writer.WriteAsync(Insert, Text("twice"), Text("1"), Version(1));

        var answers = await Task.WhenAll(Enumerable.Range(0, 100).Select(i => writer.WriteAsync(Insert, Text("twice"), Text($"{i}"), Version(i))));

        Assert.Equal(Enumerable.Range(0, 100).Select(i => i == 1 ? null : (object?)(long)i), answers);
    }

    [Fact]
    public async Task One_that_the_database_refuses_fails_alone()
    {
        await using var source = Open();
        var writer = new PostgresWriter(source);

        // No text of PostgreSQL's may hold a zero.
        var writes = Enumerable.Range(0, 100).Select(i => writer.WriteAsync(Insert, Text("refused"), Text(i % 10 == 3 ? "\0" : $"{i}"), Version(i))).ToList();

        for (var i = 0; i < writes.Count; i++)
        {
            if (i % 10 == 3)
            {
                await Assert.ThrowsAsync<PostgresException>(() => writes[i]);
            }
            else
            {
                Assert.Equal((long)i, await writes[i]);
            }
        }

        Assert.Equal(90L, await database.QueryAsync("SELECT count(*) FROM grain_state WHERE name = 'refused'"));
    }

    [Fact]
    public async Task All_that_were_under_way_fail_when_the_database_goes_and_later_ones_succeed()
    {
        Assert.SkipWhen(TestSupport.PostgresServer.Missing is not null, TestSupport.PostgresServer.Missing ?? "");
        await using var server = await TestSupport.PostgresServer.StartAsync();
        await DatabaseMigrator.MigrateAsync(server.ConnectionString, null, TestContext.Current.CancellationToken);
        await using var source = NpgsqlDataSource.Create(server.ConnectionString);
        var writer = new PostgresWriter(source);
        await writer.WriteAsync(Insert, Text("outage"), Text("before"), Version(1));

        await server.CrashAsync();
        var lost = Enumerable.Range(0, 200).Select(i => writer.WriteAsync(Insert, Text("outage"), Text($"{i}"), Version(i))).ToList();
        foreach (var write in lost)
        {
            await Assert.ThrowsAnyAsync<NpgsqlException>(() => write);
        }

        await server.StartAgainAsync();
        Assert.Equal(7L, await writer.WriteAsync(Insert, Text("outage"), Text("after"), Version(7)));
    }

    private NpgsqlDataSource Open()
    {
        Assert.SkipWhen(TestSupport.PostgresServer.Missing is not null, TestSupport.PostgresServer.Missing ?? "");
        return NpgsqlDataSource.Create(database.ConnectionString);
    }

    private static NpgsqlParameter<string> Text(string value) => new() { TypedValue = value };

    private static NpgsqlParameter<long> Version(long value) => new() { TypedValue = value };
}
