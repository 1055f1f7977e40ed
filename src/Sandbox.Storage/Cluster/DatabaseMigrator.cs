using Npgsql;

namespace Sandbox.Storage.Cluster;

/// <summary>
/// Brings a PostgreSQL database to the schema of this program: numbered scripts, each in a transaction, each applied once, one migrator at a time.
/// </summary>
public static class DatabaseMigrator
{
    private const long Lock = 0x5A4D_4947;

    private static IReadOnlyList<SqlScript> Scripts { get; } = SqlScript.Load("postgres");

    /// <summary>Applies what is missing. Safe to repeat; returns the names of what was applied now.</summary>
    /// <exception cref="StorageException">The database cannot be reached, a script has been changed since it was applied, or one failed.</exception>
    public static async Task<IReadOnlyList<string>> MigrateAsync(string connectionString, IProgress<string>? progress, CancellationToken cancellationToken)
    {
        await using var connection = await OpenAsync(connectionString, cancellationToken);

        // Held by the connection, which is not pooled: it goes with it, however this ends. Another migrator's scripts may take their time.
        await ExecuteAsync(connection, $"SELECT pg_advisory_lock({Lock})", cancellationToken);
        await ExecuteAsync(
            connection, "CREATE TABLE IF NOT EXISTS sandbox_migration (name text PRIMARY KEY, checksum text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())", cancellationToken);
        var applied = new List<string>();
        foreach (var script in await MissingAsync(connection, cancellationToken))
        {
            progress?.Report(script.Name);
            await using var transaction = await connection.BeginTransactionAsync(cancellationToken);
            try
            {
                await ExecuteAsync(connection, script.Text, cancellationToken);
            }
            catch (PostgresException e)
            {
                throw new StorageException(
                    $"The script {script.Name} failed in the database {connection.Database} on {connection.Host}: {e.MessageText} ({e.SqlState}). Nothing of it was kept; put the cause right and migrate again.", e);
            }

            await ExecuteAsync(connection, "INSERT INTO sandbox_migration (name, checksum) VALUES (@name, @checksum)", cancellationToken, ("name", script.Name), ("checksum", script.Checksum));
            await transaction.CommitAsync(cancellationToken);
            applied.Add(script.Name);
        }

        return applied;
    }

    /// <summary>Throws unless the database has this program's schema.</summary>
    /// <exception cref="StorageException">It has not; says which scripts are missing and what to do.</exception>
    public static async Task CheckAsync(string connectionString, CancellationToken cancellationToken)
    {
        await using var connection = await OpenAsync(connectionString, cancellationToken);
        await using var exists = new NpgsqlCommand("SELECT to_regclass('sandbox_migration') IS NOT NULL", connection);
        var missing = (bool)(await exists.ExecuteScalarAsync(cancellationToken))! ? await MissingAsync(connection, cancellationToken) : Scripts;
        if (missing.Count > 0)
        {
            throw new StorageException(
                $"The database {connection.Database} on {connection.Host} lacks {string.Join(", ", missing.Select(s => s.Name))}. Run: sandbox db migrate --connection '…'");
        }
    }

    private static async Task<IReadOnlyList<SqlScript>> MissingAsync(NpgsqlConnection connection, CancellationToken cancellationToken)
    {
        var applied = new Dictionary<string, string>(StringComparer.Ordinal);
        await using (var query = new NpgsqlCommand("SELECT name, checksum FROM sandbox_migration", connection))
        await using (var reader = await query.ExecuteReaderAsync(cancellationToken))
        {
            while (await reader.ReadAsync(cancellationToken))
            {
                applied[reader.GetString(0)] = reader.GetString(1);
            }
        }

        if (Scripts.FirstOrDefault(s => applied.TryGetValue(s.Name, out var checksum) && checksum != s.Checksum) is { } changed)
        {
            throw new StorageException($"The script {changed.Name} differs from the one that was applied to {connection.Database}. Scripts are never edited; use the program version that applied it, or a later one.");
        }

        return [.. Scripts.Where(s => !applied.ContainsKey(s.Name))];
    }

    private static async Task<NpgsqlConnection> OpenAsync(string connectionString, CancellationToken cancellationToken)
    {
        NpgsqlConnectionStringBuilder target;
        try
        {
            target = new NpgsqlConnectionStringBuilder(connectionString) { Pooling = false, CommandTimeout = 0 };
        }
        catch (Exception e) when (e is ArgumentException or FormatException)
        {
            throw new StorageException($"The PostgreSQL connection string is not understood: {e.Message}", e);
        }

        var connection = new NpgsqlConnection(target.ConnectionString);
        try
        {
            await connection.OpenAsync(cancellationToken);
            return connection;
        }
        catch (Exception e) when (e is NpgsqlException or ArgumentException)
        {
            await connection.DisposeAsync();
            throw new StorageException($"Cannot open the database {target.Database ?? target.Username} on {target.Host}:{target.Port}: {e.Message}", e);
        }
    }

    private static async Task ExecuteAsync(NpgsqlConnection connection, string sql, CancellationToken cancellationToken, params (string Name, object Value)[] parameters)
    {
#pragma warning disable CA2100 // Constants and resources of this assembly; values are parameters.
        await using var command = new NpgsqlCommand(sql, connection);
#pragma warning restore CA2100
        foreach (var (name, value) in parameters)
        {
            command.Parameters.AddWithValue(name, value);
        }

        await command.ExecuteNonQueryAsync(cancellationToken);
    }
}
