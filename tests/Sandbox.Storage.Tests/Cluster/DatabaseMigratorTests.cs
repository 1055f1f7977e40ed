using Npgsql;
using Sandbox.Storage.Cluster;
using Sandbox.TestSupport;
using Xunit;

namespace Sandbox.Storage.Tests.Cluster;

public sealed class DatabaseMigratorTests(Servers servers)
{
    private static readonly CancellationToken Token = TestContext.Current.CancellationToken;

    [Fact]
    public async Task It_applies_each_script_once_in_order_and_says_which()
    {
        var database = await NewDatabaseAsync();
        var reported = new Reports();

        var first = await DatabaseMigrator.MigrateAsync(database, reported, Token);
        var second = await DatabaseMigrator.MigrateAsync(database, null, Token);

        Assert.Equal(first.Order(StringComparer.Ordinal), first);
        Assert.Equal(SqlScript.Load("postgres").Select(s => s.Name), first);
        Assert.Equal(first, reported.Names);
        Assert.Empty(second);
    }

    [Fact]
    public async Task Many_at_once_apply_each_script_once()
    {
        var database = await NewDatabaseAsync();

        var runs = await Task.WhenAll(Enumerable.Range(0, 6).Select(_ => Task.Run(() => DatabaseMigrator.MigrateAsync(database, null, Token))));

        Assert.Equal(SqlScript.Load("postgres").Select(s => s.Name), runs.SelectMany(r => r).Order(StringComparer.Ordinal));
    }

    [Fact]
    public async Task A_silo_is_told_to_migrate_and_content_afterwards()
    {
        var database = await NewDatabaseAsync();

        var refusal = await Assert.ThrowsAsync<StorageException>(() => DatabaseMigrator.CheckAsync(database, Token));
        await DatabaseMigrator.MigrateAsync(database, null, Token);
        await DatabaseMigrator.CheckAsync(database, Token);

        Assert.Contains("sandbox db migrate", refusal.Message, StringComparison.Ordinal);
        Assert.Contains("002-grain-state.sql", refusal.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_script_that_was_edited_after_it_was_applied_is_named()
    {
        var database = await NewDatabaseAsync();
        await DatabaseMigrator.MigrateAsync(database, null, Token);
        await ExecuteAsync(database, "UPDATE sandbox_migration SET checksum = 'another' WHERE name LIKE '003%'");

        var refusal = await Assert.ThrowsAsync<StorageException>(() => DatabaseMigrator.MigrateAsync(database, null, Token));
        var check = await Assert.ThrowsAsync<StorageException>(() => DatabaseMigrator.CheckAsync(database, Token));

        Assert.Contains("003-reminders.sql", refusal.Message, StringComparison.Ordinal);
        Assert.Equal(refusal.Message, check.Message);
    }

    [Fact]
    public async Task A_script_that_fails_leaves_nothing_is_named_and_can_be_repeated()
    {
        var database = await NewDatabaseAsync();
        await ExecuteAsync(database, "CREATE TABLE reminder_by_hash ()");

        var failure = await Assert.ThrowsAsync<StorageException>(() => DatabaseMigrator.MigrateAsync(database, null, Token));
        await ExecuteAsync(database, "DROP TABLE reminder_by_hash");
        var applied = await DatabaseMigrator.MigrateAsync(database, null, Token);

        Assert.Contains("003-reminders.sql", failure.Message, StringComparison.Ordinal);
        Assert.Contains("reminder_by_hash", failure.Message, StringComparison.Ordinal);
        Assert.Equal(["003-reminders.sql"], applied);
    }

    [Fact]
    public async Task What_a_later_program_applied_is_no_obstacle()
    {
        var database = await NewDatabaseAsync();
        await DatabaseMigrator.MigrateAsync(database, null, Token);
        await ExecuteAsync(database, "INSERT INTO sandbox_migration (name, checksum) VALUES ('999-later.sql', 'x')");

        await DatabaseMigrator.CheckAsync(database, Token);
        Assert.Empty(await DatabaseMigrator.MigrateAsync(database, null, Token));
    }

    [Fact]
    public async Task A_server_that_is_not_there_is_named()
    {
        var port = Loopback.FreePort();

        var failure = await Assert.ThrowsAsync<StorageException>(() => DatabaseMigrator.MigrateAsync($"Host=127.0.0.1;Port={port};Database=orders;Username=u;Password=hush", null, Token));

        Assert.Contains($"orders on 127.0.0.1:{port}", failure.Message, StringComparison.Ordinal);
        Assert.DoesNotContain("hush", failure.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_database_that_is_not_there_is_named()
    {
        var database = new NpgsqlConnectionStringBuilder(await NewDatabaseAsync()) { Database = "nowhere" }.ConnectionString;

        Assert.Contains("nowhere", (await Assert.ThrowsAsync<StorageException>(() => DatabaseMigrator.CheckAsync(database, Token))).Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("Host=127.0.0.1;Prot=5432")]
    [InlineData("not a connection string")]
    public async Task A_connection_string_that_means_nothing_is_refused(string text) =>
        Assert.Contains("connection string", (await Assert.ThrowsAsync<StorageException>(() => DatabaseMigrator.MigrateAsync(text, null, Token))).Message, StringComparison.Ordinal);

    private async Task<string> NewDatabaseAsync() => await (await servers.PostgresAsync()).CreateDatabaseAsync();

    private static async Task ExecuteAsync(string database, string sql)
    {
        await using var connection = new NpgsqlConnection(database);
        await connection.OpenAsync(Token);
#pragma warning disable CA2100
        await using var command = new NpgsqlCommand(sql, connection);
#pragma warning restore CA2100
        await command.ExecuteNonQueryAsync(Token);
    }

    private sealed class Reports : IProgress<string>
    {
        public List<string> Names { get; } = [];

        public void Report(string value) => Names.Add(value);
    }
}
