namespace Sandbox.Storage.Embedded;

/// <summary>Grain state in SQLite.</summary>
public sealed class SqliteGrainStorage(SqliteDatabase database, IServiceProvider services, string provider) : VersionedGrainStorage(services, provider)
{
    private const string Where = "WHERE service = $service AND provider = $provider AND name = $name AND grain = $grain";

    /// <inheritdoc/>
    protected override Task<StateRow?> ReadAsync(StateKey key) => database.ReadAsync(
        $"SELECT version, payload FROM grain_state {Where}",
        r => r.Read() ? new StateRow(r.GetInt64(0), r.IsDBNull(1) ? null : r.GetFieldValue<byte[]>(1)) : null,
        Parameters(key));

    /// <inheritdoc/>
    protected override Task<long?> InsertAsync(StateKey key, byte[] payload) => database.WriteAsync<long?>(
        """
        INSERT INTO grain_state (service, provider, name, grain, version, payload, modified) VALUES ($service, $provider, $name, $grain, 1, $payload, unixepoch())
        ON CONFLICT DO NOTHING RETURNING version
        """,
        r => r.Read() ? r.GetInt64(0) : null,
        [.. Parameters(key), ("$payload", payload)]);

    /// <inheritdoc/>
    protected override Task<long?> UpdateAsync(StateKey key, long version, byte[]? payload) => database.WriteAsync<long?>(
        $"UPDATE grain_state SET version = version + 1, payload = $payload, modified = unixepoch() {Where} AND version = $version RETURNING version",
        r => r.Read() ? r.GetInt64(0) : null,
        [.. Parameters(key), ("$payload", payload), ("$version", version)]);

    /// <inheritdoc/>
    protected override Task SweepAsync() => database.WriteAsync(
        $"""
        DELETE FROM grain_state WHERE (service, provider, name, grain) IN
            (SELECT service, provider, name, grain FROM grain_state
             WHERE payload IS NULL AND modified < unixepoch() - {SweepAfterDays} * 86400 LIMIT {SweepAtOnce})
        RETURNING 1
        """,
        r => r.Read());

    private static (string, object?)[] Parameters(StateKey key) => [("$service", key.Service), ("$provider", key.Provider), ("$name", key.Name), ("$grain", key.Grain)];
}
