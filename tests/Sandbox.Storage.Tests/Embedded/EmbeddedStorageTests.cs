using Microsoft.Data.Sqlite;
using Sandbox.Storage.Embedded;
using Xunit;

namespace Sandbox.Storage.Tests.Embedded;

/// <summary>A data directory of a test's own.</summary>
public sealed class DataDirectory : IDisposable
{
    public string FullPath { get; } = Path.Combine(Path.GetTempPath(), "sandbox-test-storage-" + Guid.NewGuid().ToString("N"));

    public string File => Path.Combine(FullPath, "sandbox.db");

    public object? Query(string sql)
    {
        using var connection = new SqliteConnection($"Data Source={File};Pooling=false");
        connection.Open();
        using var command = connection.CreateCommand();
#pragma warning disable CA2100
        command.CommandText = sql;
#pragma warning restore CA2100
        return command.ExecuteScalar();
    }

    public void Dispose()
    {
        if (Directory.Exists(FullPath))
        {
            Directory.Delete(FullPath, recursive: true);
        }
    }
}

public sealed class SqliteGrainStorageTests(DataDirectory data) : GrainStorageContract, IClassFixture<DataDirectory>
{
    private protected override Task<StoreHost> StartAsync(string service = "storage-test") => StoreHost.StartAsync(s => s.UseEmbeddedStorage(data.FullPath), service);

    protected override Task AgeAsync(TimeSpan age)
    {
        data.Query($"UPDATE grain_state SET modified = unixepoch() - {(long)age.TotalSeconds} WHERE payload IS NULL");
        return Task.CompletedTask;
    }

    protected override Task<long> CountRowsAsync() => Task.FromResult((long)data.Query("SELECT count(*) FROM grain_state")!);
}

public sealed class SqliteReminderTableTests(DataDirectory data) : ReminderTableContract, IClassFixture<DataDirectory>
{
    private protected override Task<StoreHost> StartAsync(string service = "storage-test") => StoreHost.StartAsync(s => s.UseEmbeddedStorage(data.FullPath), service);
}

public sealed class SqliteDatabaseTests : IDisposable
{
    private readonly DataDirectory _data = new();

    public void Dispose() => _data.Dispose();

    [Fact]
    public void It_writes_ahead_and_is_readable_by_its_owner_alone()
    {
        using var database = new SqliteDatabase(_data.FullPath);

        Assert.Equal("wal", _data.Query("PRAGMA journal_mode"));
        Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite, File.GetUnixFileMode(database.File));
    }

    [Fact]
    public void A_database_of_a_later_program_is_refused()
    {
        new SqliteDatabase(_data.FullPath).Dispose();
        _data.Query("PRAGMA user_version = 1000");

        var refusal = Assert.Throws<StorageException>(() => new SqliteDatabase(_data.FullPath));

        Assert.Contains("later version", refusal.Message, StringComparison.Ordinal);
        Assert.Contains(_data.File, refusal.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_database_of_an_earlier_program_is_brought_up_to_date_and_keeps_what_it_has()
    {
        Directory.CreateDirectory(_data.FullPath);
        _data.Query(SqlScript.Load("sqlite")[0].Text);
        _data.Query("INSERT INTO grain_state (service, provider, name, grain, version, payload) VALUES ('s', 'p', 'n', 'g', 4, NULL)");

        using var database = new SqliteDatabase(_data.FullPath);

        Assert.Equal(4, await database.ReadAsync("SELECT version FROM grain_state WHERE modified = 0", r => r.Read() ? r.GetInt64(0) : 0));
    }

    [Fact]
    public void A_file_that_is_no_database_is_refused_by_name()
    {
        Directory.CreateDirectory(_data.FullPath);
        File.WriteAllText(_data.File, new string('x', 8192));

        Assert.Contains(_data.File, Assert.Throws<StorageException>(() => new SqliteDatabase(_data.FullPath)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_write_that_fails_is_not_reported_as_done()
    {
        using var database = new SqliteDatabase(_data.FullPath);
        _data.Query("CREATE TABLE parent (id INTEGER PRIMARY KEY)");
        _data.Query("CREATE TABLE child (id INTEGER REFERENCES parent DEFERRABLE INITIALLY DEFERRED)");

        // A deferred constraint fails when the statement commits, after its row has been returned: as a full disk does.
        await Assert.ThrowsAsync<SqliteException>(() => database.WriteAsync("INSERT INTO child VALUES (1) RETURNING id", r => r.Read()));

        Assert.Equal(0L, _data.Query("SELECT count(*) FROM child"));
    }

    [Fact]
    public async Task Writers_wait_for_another_process_that_holds_the_database()
    {
        using var database = new SqliteDatabase(_data.FullPath);
        using var other = new SqliteConnection($"Data Source={_data.File};Pooling=false");
        other.Open();
        var transaction = other.BeginTransaction(deferred: false);

        var write = database.WriteAsync("INSERT INTO reminder VALUES ('s', 'g', 'n', 1, 2, 3, 1) RETURNING version", r => r.Read());
        Assert.Equal(0, await database.ReadAsync("SELECT count(*) FROM reminder", r => r.Read() ? r.GetInt64(0) : -1));
        Assert.False(write.IsCompleted);
        transaction.Dispose();

        Assert.True(await write);
    }
}
