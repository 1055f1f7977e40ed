using Microsoft.Data.Sqlite;

namespace Sandbox.Storage.Embedded;

/// <summary>
/// The embedded database: one file, WAL, and <c>synchronous=FULL</c>, so that a transition that was announced survives a power cut and not only a crash of the process.
/// SQLite has one writer at a time; writes queue here rather than fail as busy.
/// </summary>
public sealed class SqliteDatabase : IDisposable
{
    private readonly string _connectionString;
    private readonly SemaphoreSlim _writer = new(1, 1);

    /// <summary>Opens the database of a data directory, making it if it is not there.</summary>
    public SqliteDatabase(string dataDirectory)
    {
        Directory.CreateDirectory(dataDirectory);
        File = Path.Combine(dataDirectory, "sandbox.db");
        _connectionString = new SqliteConnectionStringBuilder { DataSource = File, Cache = SqliteCacheMode.Private, Pooling = true, DefaultTimeout = 30 }.ToString();
        using var connection = Open();
        Execute(connection, "PRAGMA journal_mode = WAL");
        Execute(connection, Schema);
    }

    /// <summary>The file.</summary>
    public string File { get; }

    private static string Schema =>
        """
        CREATE TABLE IF NOT EXISTS grain_state (
            service  TEXT NOT NULL,
            provider TEXT NOT NULL,
            name     TEXT NOT NULL,
            grain    TEXT NOT NULL,
            version  INTEGER NOT NULL,
            payload  BLOB,
            PRIMARY KEY (service, provider, name, grain)
        ) WITHOUT ROWID;
        CREATE TABLE IF NOT EXISTS reminder (
            service  TEXT NOT NULL,
            grain    TEXT NOT NULL,
            name     TEXT NOT NULL,
            hash     INTEGER NOT NULL,
            start    INTEGER NOT NULL,
            period   INTEGER NOT NULL,
            version  INTEGER NOT NULL,
            PRIMARY KEY (service, grain, name)
        ) WITHOUT ROWID;
        CREATE INDEX IF NOT EXISTS reminder_by_hash ON reminder (service, hash);
        """;

    /// <summary>Runs a statement that changes something; returns what <paramref name="read"/> makes of its rows.</summary>
    public async Task<T> WriteAsync<T>(string sql, Func<SqliteDataReader, T> read, params (string Name, object? Value)[] parameters)
    {
        await _writer.WaitAsync();
        try
        {
            // SQLite's own calls are synchronous; they must not hold one of Orleans' scheduler threads.
            return await Task.Run(() => Query(sql, read, parameters));
        }
        finally
        {
            _writer.Release();
        }
    }

    /// <summary>Runs a query.</summary>
    public Task<T> ReadAsync<T>(string sql, Func<SqliteDataReader, T> read, params (string Name, object? Value)[] parameters) => Task.Run(() => Query(sql, read, parameters));

    /// <inheritdoc/>
    public void Dispose()
    {
        _writer.Dispose();
        using var connection = new SqliteConnection(_connectionString);
        SqliteConnection.ClearPool(connection);
    }

    private T Query<T>(string sql, Func<SqliteDataReader, T> read, (string Name, object? Value)[] parameters)
    {
        using var connection = Open();
        using var command = connection.CreateCommand();
#pragma warning disable CA2100 // Every statement is a constant of this assembly; values are parameters.
        command.CommandText = sql;
#pragma warning restore CA2100
        foreach (var (name, value) in parameters)
        {
            command.Parameters.AddWithValue(name, value ?? DBNull.Value);
        }

        using var reader = command.ExecuteReader();
        return read(reader);
    }

    private SqliteConnection Open()
    {
        var connection = new SqliteConnection(_connectionString);
        connection.Open();
        Execute(connection, "PRAGMA synchronous = FULL");
        return connection;
    }

    private static void Execute(SqliteConnection connection, string sql)
    {
        using var command = connection.CreateCommand();
#pragma warning disable CA2100 // A constant of this class.
        command.CommandText = sql;
#pragma warning restore CA2100
        command.ExecuteNonQuery();
    }
}
