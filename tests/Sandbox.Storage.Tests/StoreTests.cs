using Npgsql;
using Sandbox.Storage.Cluster;
using Sandbox.Storage.Embedded;
using Sandbox.TestSupport;
using Xunit;

namespace Sandbox.Storage.Tests;

public sealed class EmbeddedStoreTests : StoreContract, IDisposable
{
    private readonly string _directory = Directory.CreateTempSubdirectory("sandbox-sqlite-").FullName;

    public void Dispose() => Directory.Delete(_directory, recursive: true);

    protected override void Use(ISiloBuilder silo) => silo.UseEmbeddedStorage(_directory);
}

public sealed class PostgresFixture : IAsyncLifetime
{
    public PostgresServer Server { get; private set; } = null!;

    public async ValueTask InitializeAsync()
    {
        Server = await PostgresServer.StartAsync();
        await DatabaseMigrator.MigrateAsync(Server.ConnectionString, null, CancellationToken.None);
    }

    public async ValueTask DisposeAsync() => await Server.DisposeAsync();
}

public sealed class PostgresStoreTests(PostgresFixture fixture) : StoreContract, IClassFixture<PostgresFixture>
{
    protected override void Use(ISiloBuilder silo) => silo.UsePostgresStorage(fixture.Server.ConnectionString);

    [Fact]
    public async Task Migrating_again_applies_nothing()
    {
        Assert.Empty(await DatabaseMigrator.MigrateAsync(fixture.Server.ConnectionString, null, TestContext.Current.CancellationToken));
        await DatabaseMigrator.CheckAsync(fixture.Server.ConnectionString, TestContext.Current.CancellationToken);
    }

    [Fact]
    public async Task A_database_without_the_schema_and_one_with_an_edited_script_are_told_apart_and_refused()
    {
        await using var source = NpgsqlDataSource.Create(fixture.Server.ConnectionString);
        await using (var create = source.CreateCommand("CREATE DATABASE other"))
        {
            await create.ExecuteNonQueryAsync(TestContext.Current.CancellationToken);
        }

        var other = fixture.Server.ConnectionString.Replace("Database=postgres", "Database=other", StringComparison.Ordinal);
        var missing = await Assert.ThrowsAsync<StorageException>(() => DatabaseMigrator.CheckAsync(other, TestContext.Current.CancellationToken));
        Assert.Contains("sandbox db migrate", missing.Message, StringComparison.Ordinal);

        // Two at once: one does the work, the other waits and finds it done.
        var both = await Task.WhenAll(
            DatabaseMigrator.MigrateAsync(other, null, TestContext.Current.CancellationToken), DatabaseMigrator.MigrateAsync(other, null, TestContext.Current.CancellationToken));
        Assert.Equal(3, both.Sum(b => b.Count));

        await using var changed = NpgsqlDataSource.Create(other);
        await using (var edit = changed.CreateCommand("UPDATE sandbox_migration SET checksum = 'edited' WHERE name LIKE '002%'"))
        {
            await edit.ExecuteNonQueryAsync(TestContext.Current.CancellationToken);
        }

        var edited = await Assert.ThrowsAsync<StorageException>(() => DatabaseMigrator.CheckAsync(other, TestContext.Current.CancellationToken));
        Assert.Contains("002", edited.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_database_that_is_not_there_is_named()
    {
        var error = await Assert.ThrowsAsync<StorageException>(
            () => DatabaseMigrator.MigrateAsync("Host=127.0.0.1;Port=1;Username=x;Database=gone", null, TestContext.Current.CancellationToken));
        Assert.Contains("gone", error.Message, StringComparison.Ordinal);
    }
}
