using System.Globalization;
using Orleans.Storage;

namespace Sandbox.Storage.Embedded;

/// <summary>Grain state in SQLite. The ETag is the row's version; a write that names another is refused.</summary>
public sealed class SqliteGrainStorage(SqliteDatabase database, string provider, string serviceId, IGrainStorageSerializer serializer) : IGrainStorage
{
    private const string Key = "service = $service AND provider = $provider AND name = $name AND grain = $grain";

    /// <inheritdoc/>
    public async Task ReadStateAsync<T>(string stateName, GrainId grainId, IGrainState<T> grainState)
    {
        ArgumentNullException.ThrowIfNull(grainState);
        var (version, payload) = await database.ReadAsync<(long?, byte[]?)>(
            $"SELECT version, payload FROM grain_state WHERE {Key}",
            r => r.Read() ? (r.GetInt64(0), r.IsDBNull(1) ? null : r.GetFieldValue<byte[]>(1)) : (null, null),
            Keys(stateName, grainId));
        grainState.RecordExists = payload is not null;
        grainState.ETag = version?.ToString(CultureInfo.InvariantCulture);
        grainState.State = payload is null ? Activator.CreateInstance<T>() : serializer.Deserialize<T>(new BinaryData(payload));
    }

    /// <inheritdoc/>
    public async Task WriteStateAsync<T>(string stateName, GrainId grainId, IGrainState<T> grainState)
    {
        ArgumentNullException.ThrowIfNull(grainState);
        var payload = serializer.Serialize(grainState.State).ToArray();
        grainState.ETag = await ChangeAsync(stateName, grainId, grainState.ETag, payload);
        grainState.RecordExists = true;
    }

    /// <inheritdoc/>
    public async Task ClearStateAsync<T>(string stateName, GrainId grainId, IGrainState<T> grainState)
    {
        ArgumentNullException.ThrowIfNull(grainState);
        if (grainState.ETag is not null)
        {
            // The row stays, empty: its version keeps a late writer with an old ETag out.
            grainState.ETag = await ChangeAsync(stateName, grainId, grainState.ETag, null);
        }

        grainState.RecordExists = false;
        grainState.State = Activator.CreateInstance<T>();
    }

    private async Task<string> ChangeAsync(string stateName, GrainId grainId, string? etag, byte[]? payload)
    {
        var sql = etag is null
            ? "INSERT INTO grain_state (service, provider, name, grain, version, payload) VALUES ($service, $provider, $name, $grain, 1, $payload) ON CONFLICT DO NOTHING RETURNING version"
            : $"UPDATE grain_state SET version = version + 1, payload = $payload WHERE {Key} AND version = $version RETURNING version";
        var version = await database.WriteAsync(
            sql,
            r => r.Read() ? r.GetInt64(0) : (long?)null,
            [.. Keys(stateName, grainId), ("$payload", payload), ("$version", etag is null ? null : long.Parse(etag, CultureInfo.InvariantCulture))]);
        return version?.ToString(CultureInfo.InvariantCulture)
            ?? throw new InconsistentStateException($"The state '{stateName}' of {grainId} was changed by somebody else since it was read.", "another", etag ?? "none");
    }

    private (string, object?)[] Keys(string stateName, GrainId grainId) =>
        [("$service", serviceId), ("$provider", provider), ("$name", stateName), ("$grain", grainId.ToString())];
}
