using Microsoft.Data.Sqlite;

namespace Sandbox.Storage.Embedded;

/// <summary>
/// The embedded database: one file, WAL, and <c>synchronous=FULL</c>, so that a transition that was announced survives a power cut and not only a crash of the process.
/// SQLite has one writer at a time; writes that wait are committed together (<see cref="SqliteWriter"/>) rather than fail as busy.
/// </summary>
public sealed class SqliteDatabase : IDisposable
{
    private static readonly IReadOnlyList<SqlScript> Scripts = SqlScript.Load("sqlite");
    private readonly string _connectionString;
    private readonly SqliteWriter _writer;

    /// <summary>Opens the database of a data directory, making it, or bringing it to this program's schema, if need be.</summary>
    /// <exception cref="StorageException">It cannot be used: no database, damaged, or of a later program.</exception>
    public SqliteDatabase(string dataDirectory)
    {
        File = Path.Combine(dataDirectory, "sandbox.db");
        _connectionString = new SqliteConnectionStringBuilder { DataSource = File, Cache = SqliteCacheMode.Private, Pooling = true, DefaultTimeout = 30 }.ToString();
        try
        {
            Directory.CreateDirectory(dataDirectory);

            // Keys of tenants and environments of sessions are nobody else's business. SQLite gives its log the permissions of the file.
            using (new FileStream(File, new FileStreamOptions { Mode = FileMode.OpenOrCreate, Access = FileAccess.ReadWrite, Share = FileShare.ReadWrite, UnixCreateMode = UnixFileMode.UserRead | UnixFileMode.UserWrite }))
            {
            }

            var connection = Open();
            try
            {
                Execute(connection, "PRAGMA journal_mode = WAL");
                Migrate(connection);
                _writer = new SqliteWriter(connection);
            }
            catch
            {
                connection.Dispose();
                throw;
            }
        }
        catch (Exception e) when (e is SqliteException or IOException or UnauthorizedAccessException)
        {
            throw new StorageException($"The database {File} cannot be used: {e.Message}", e);
        }
    }

    /// <summary>The file.</summary>
    public string File { get; }

    /// <summary>Runs a statement that changes something; returns what <paramref name="read"/> makes of its rows.</summary>
    public Task<T> WriteAsync<T>(string sql, Func<SqliteDataReader, T> read, params (string Name, object? Value)[] parameters) =>
        _writer.WriteAsync(connection => Query(connection, sql, read, parameters));

    /// <summary>Runs a query.</summary>
    public Task<T> ReadAsync<T>(string sql, Func<SqliteDataReader, T> read, params (string Name, object? Value)[] parameters) => Task.Run(() =>
    {
        using var connection = Open();
        return Query(connection, sql, read, parameters);
    });

    /// <inheritdoc/>
    public void Dispose()
    {
        _writer.Dispose();
        using var connection = new SqliteConnection(_connectionString);
        SqliteConnection.ClearPool(connection);
    }

    private static T Query<T>(SqliteConnection connection, string sql, Func<SqliteDataReader, T> read, (string Name, object? Value)[] parameters)
    {
        using var command = connection.CreateCommand();
#pragma warning disable CA2100 // Every statement is a constant of this assembly; values are parameters.
        command.CommandText = sql;
#pragma warning restore CA2100
        foreach (var (name, value) in parameters)
        {
            command.Parameters.AddWithValue(name, value ?? DBNull.Value);
        }

        using var reader = command.ExecuteReader();
        var result = read(reader);

        // A statement commits when it has been read to its end, and only a step that was asked for reports that the commit failed.
        while (reader.Read())
        {
        }

        return result;
    }

    /// <summary>The number of scripts a database has had is its <c>user_version</c>: part of the file, and of each script's transaction.</summary>
    private void Migrate(SqliteConnection connection)
    {
        using var transaction = connection.BeginTransaction(deferred: false);
        using var version = connection.CreateCommand();
        version.CommandText = "PRAGMA user_version";
        var applied = (long)version.ExecuteScalar()!;
        if (applied > Scripts.Count)
        {
            throw new StorageException($"The database {File} is of a later version of this program (schema {applied}, this one knows {Scripts.Count}). Use that one, or another data directory.");
        }

        foreach (var script in Scripts.Skip((int)applied))
        {
            Execute(connection, script.Text);
        }

        Execute(connection, $"PRAGMA user_version = {Scripts.Count}");
        transaction.Commit();
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
#pragma warning disable CA2100 // Constants and resources of this assembly.
        command.CommandText = sql;
#pragma warning restore CA2100
        command.ExecuteNonQuery();
    }
}
