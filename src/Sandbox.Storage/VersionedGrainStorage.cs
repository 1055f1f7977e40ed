using System.Globalization;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Options;
using Orleans.Configuration;
using Orleans.Serialization.Serializers;
using Orleans.Storage;

namespace Sandbox.Storage;

/// <summary>
/// Grain state as rows with a version, which is the ETag: a write that names another version than the row's is refused. What a database has to do
/// is four statements; this is the rest.
/// </summary>
/// <remarks>
/// A row is found by service, provider, name of the state, and the whole grain id, type and key, as text. Orleans' own relational storage reads a key that
/// looks like a number or a GUID as one and leaves the grain's type out, so that "beef" and "0BEEF" would share a row.
/// </remarks>
public abstract class VersionedGrainStorage(IServiceProvider services, string provider) : IGrainStorage
{
    /// <summary>Empty rows of this age go: nobody can still hold an ETag as old.</summary>
    protected const int SweepAfterDays = 7;

    /// <summary>How many empty rows one removal takes with it at most.</summary>
    protected const int SweepAtOnce = 16;

    private readonly IGrainStorageSerializer _serializer = ActivatorUtilities.CreateInstance<OrleansGrainStorageSerializer>(services);
    private readonly IActivatorProvider _activators = services.GetRequiredService<IActivatorProvider>();
    private readonly string _service = services.GetRequiredService<IOptions<ClusterOptions>>().Value.ServiceId;

    /// <inheritdoc/>
    public async Task ReadStateAsync<T>(string stateName, GrainId grainId, IGrainState<T> grainState)
    {
        ArgumentNullException.ThrowIfNull(grainState);
        var row = await ReadAsync(KeyOf(stateName, grainId));
        grainState.RecordExists = row?.Payload is not null;
        grainState.ETag = row?.Version.ToString(CultureInfo.InvariantCulture);
        grainState.State = row?.Payload is { } payload ? _serializer.Deserialize<T>(new BinaryData(payload)) : New<T>();
    }

    /// <inheritdoc/>
    /// <exception cref="InconsistentStateException">Somebody else has written since this state was read; nothing was changed.</exception>
    public async Task WriteStateAsync<T>(string stateName, GrainId grainId, IGrainState<T> grainState)
    {
        ArgumentNullException.ThrowIfNull(grainState);
        var (key, payload) = (KeyOf(stateName, grainId), _serializer.Serialize(grainState.State).ToArray());
        var version = Version(grainState.ETag) is { } old ? await UpdateAsync(key, old, payload) : await InsertAsync(key, payload);
        grainState.ETag = version?.ToString(CultureInfo.InvariantCulture) ?? throw Conflict(key, grainState.ETag);
        grainState.RecordExists = true;
    }

    /// <inheritdoc/>
    /// <exception cref="InconsistentStateException">Somebody else has written since this state was read; nothing was changed.</exception>
    public async Task ClearStateAsync<T>(string stateName, GrainId grainId, IGrainState<T> grainState)
    {
        ArgumentNullException.ThrowIfNull(grainState);
        if (Version(grainState.ETag) is { } old)
        {
            // The row stays, empty: its version keeps a late writer with an old ETag out. Each removal sweeps a few old ones, so that they do not
            // pile up and nothing has to run by the clock.
            var key = KeyOf(stateName, grainId);
            var version = await UpdateAsync(key, old, null) ?? throw Conflict(key, grainState.ETag);
            grainState.ETag = version.ToString(CultureInfo.InvariantCulture);
            await SweepAsync();
        }

        grainState.RecordExists = false;
        grainState.State = New<T>();
    }

    /// <summary>The row, or null.</summary>
    protected abstract Task<StateRow?> ReadAsync(StateKey key);

    /// <summary>Adds a row; returns its version, or null if there is one.</summary>
    protected abstract Task<long?> InsertAsync(StateKey key, byte[] payload);

    /// <summary>Changes the row if it still has this version; returns the next one, or null.</summary>
    protected abstract Task<long?> UpdateAsync(StateKey key, long version, byte[]? payload);

    /// <summary>Deletes at most <see cref="SweepAtOnce"/> rows that have been empty for <see cref="SweepAfterDays"/>.</summary>
    protected abstract Task SweepAsync();

    private static long? Version(string? etag) => etag is null ? null : long.Parse(etag, NumberStyles.None, CultureInfo.InvariantCulture);

    private static InconsistentStateException Conflict(StateKey key, string? etag) =>
        new($"The state '{key.Name}' of {key.Grain} was changed by somebody else since it was read.", "another", etag ?? "none");

    private StateKey KeyOf(string stateName, GrainId grainId) => new(_service, provider, stateName, grainId.ToString());

    private T New<T>() => _activators.GetActivator<T>().Create();
}

/// <summary>Where a state is.</summary>
/// <param name="Service">Orleans' service id.</param>
/// <param name="Provider">The name of the storage provider.</param>
/// <param name="Name">The name of the state in the grain.</param>
/// <param name="Grain">The grain's type and key.</param>
public sealed record StateKey(string Service, string Provider, string Name, string Grain);

/// <summary>A state as stored.</summary>
/// <param name="Version">Rises by one with each write.</param>
/// <param name="Payload">The serialized state, or null once it was cleared.</param>
public sealed record StateRow(long Version, byte[]? Payload);
