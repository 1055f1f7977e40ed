using Npgsql;

namespace Sandbox.Storage.Cluster;

/// <summary>Grain state in PostgreSQL. A read is a statement of its own; writes go together (<see cref="PostgresWriter"/>).</summary>
internal sealed class PostgresGrainStorage(NpgsqlDataSource database, PostgresWriter writer, IServiceProvider services, string provider) : VersionedGrainStorage(services, provider)
{
    private const string Where = "WHERE service = $1 AND provider = $2 AND name = $3 AND grain = $4";

    /// <inheritdoc/>
    protected override async Task<StateRow?> ReadAsync(StateKey key)
    {
        await using var command = database.CreateCommand($"SELECT version, payload FROM grain_state {Where}");
        command.Parameters.AddRange(Parameters(key));
        await using var reader = await command.ExecuteReaderAsync();
        return await reader.ReadAsync() ? new StateRow(reader.GetInt64(0), await reader.IsDBNullAsync(1) ? null : reader.GetFieldValue<byte[]>(1)) : null;
    }

    /// <inheritdoc/>
    protected override async Task<long?> InsertAsync(StateKey key, byte[] payload) => (long?)await writer.WriteAsync(
        "INSERT INTO grain_state (service, provider, name, grain, version, payload) VALUES ($1, $2, $3, $4, 1, $5) ON CONFLICT DO NOTHING RETURNING version",
        [.. Parameters(key), new NpgsqlParameter<byte[]> { TypedValue = payload }]);

    /// <inheritdoc/>
    protected override async Task<long?> UpdateAsync(StateKey key, long version, byte[]? payload) => (long?)await writer.WriteAsync(
        $"UPDATE grain_state SET version = version + 1, payload = $5, modified_at = now() {Where} AND version = $6 RETURNING version",
        [
            .. Parameters(key),
            new NpgsqlParameter { NpgsqlDbType = NpgsqlTypes.NpgsqlDbType.Bytea, Value = (object?)payload ?? DBNull.Value },
            new NpgsqlParameter<long> { TypedValue = version },
        ]);

    /// <inheritdoc/>
    protected override async Task SweepAsync()
    {
        // Two silos that sweep at once take different rows instead of waiting for each other.
        await using var command = database.CreateCommand(
            $"""
            DELETE FROM grain_state WHERE payload IS NULL AND (service, provider, name, grain) IN
                (SELECT service, provider, name, grain FROM grain_state
                 WHERE payload IS NULL AND modified_at < now() - interval '{SweepAfterDays} days'
                 ORDER BY modified_at LIMIT {SweepAtOnce} FOR UPDATE SKIP LOCKED)
            """);
        await command.ExecuteNonQueryAsync();
    }

    private static NpgsqlParameter[] Parameters(StateKey key) =>
    [
        new NpgsqlParameter<string> { TypedValue = key.Service },
        new NpgsqlParameter<string> { TypedValue = key.Provider },
        new NpgsqlParameter<string> { TypedValue = key.Name },
        new NpgsqlParameter<string> { TypedValue = key.Grain },
    ];
}
