using Npgsql;
using Sandbox.Storage.Cluster;
using Xunit;

namespace Sandbox.Storage.Tests.Cluster;

/// <summary>A migrated database of a test class's own.</summary>
public sealed class PostgresDatabase(Servers servers) : IAsyncLifetime
{
    public string ConnectionString { get; private set; } = "";

    public async ValueTask InitializeAsync()
    {
        if (TestSupport.PostgresServer.Missing is null)
        {
            ConnectionString = await (await servers.PostgresAsync()).CreateDatabaseAsync();
            await DatabaseMigrator.MigrateAsync(ConnectionString, null, TestContext.Current.CancellationToken);
        }
    }

    public async Task<object?> QueryAsync(string sql)
    {
        await using var connection = new NpgsqlConnection(ConnectionString);
        await connection.OpenAsync();
#pragma warning disable CA2100
        await using var command = new NpgsqlCommand(sql, connection);
#pragma warning restore CA2100
        return await command.ExecuteScalarAsync();
    }

    internal Task<StoreHost> StartAsync(string service)
    {
        Assert.SkipWhen(TestSupport.PostgresServer.Missing is not null, TestSupport.PostgresServer.Missing ?? "");
        return StoreHost.StartAsync(s => s.UsePostgresStorage(ConnectionString), service);
    }

    public ValueTask DisposeAsync() => ValueTask.CompletedTask;
}

public sealed class PostgresGrainStorageTests(PostgresDatabase database) : GrainStorageContract, IClassFixture<PostgresDatabase>
{
    private protected override Task<StoreHost> StartAsync(string service = "storage-test") => database.StartAsync(service);

    protected override Task AgeAsync(TimeSpan age) => database.QueryAsync($"UPDATE grain_state SET modified_at = now() - interval '{(long)age.TotalSeconds} seconds' WHERE payload IS NULL");

    protected override async Task<long> CountRowsAsync() => (long)(await database.QueryAsync("SELECT count(*) FROM grain_state"))!;
}

public sealed class PostgresReminderTableTests(PostgresDatabase database) : ReminderTableContract, IClassFixture<PostgresDatabase>
{
    private protected override Task<StoreHost> StartAsync(string service = "storage-test") => database.StartAsync(service);
}

public sealed class PostgresOutageTests
{
    [Fact]
    public async Task Writes_fail_while_the_database_is_away_and_go_on_when_it_is_back()
    {
        Assert.SkipWhen(TestSupport.PostgresServer.Missing is not null, TestSupport.PostgresServer.Missing ?? "");
        await using var server = await TestSupport.PostgresServer.StartAsync();
        await DatabaseMigrator.MigrateAsync(server.ConnectionString, null, TestContext.Current.CancellationToken);
        await using var store = await StoreHost.StartAsync(s => s.UsePostgresStorage(server.ConnectionString));
        var grain = GrainId.Create("thing", "one");
        var state = await store.WriteAsync(grain, 1, null);

        await server.CrashAsync();
        await Assert.ThrowsAnyAsync<NpgsqlException>(() => store.WriteAsync(grain, 2, state.ETag));
        await Assert.ThrowsAnyAsync<NpgsqlException>(() => store.ReadAsync(grain));
        await server.StartAgainAsync();

        Assert.Equal(1, (await store.ReadAsync(grain)).State!.Number);
        await store.WriteAsync(grain, 3, state.ETag);
        Assert.Equal(3, (await store.ReadAsync(grain)).State!.Number);
    }
}
