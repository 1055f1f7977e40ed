using Microsoft.Extensions.DependencyInjection;
using Orleans.Storage;

namespace Sandbox.Grains.Sessions.State;

/// <summary>
/// A stored document that is read when it is asked for. What Orleans injects is read at every activation, whether anybody needs it or not: for a session that
/// is being made, or whose older executions nobody asks for, that is a read of the database for nothing.
/// </summary>
internal sealed class OnDemandState<T>(IServiceProvider services, string name, GrainId grain) : IPersistentState<T>
    where T : class, new()
{
    private readonly IGrainStorage _storage = services.GetRequiredKeyedService<IGrainStorage>(StorageNames.Provider);
    private readonly GrainState<T> _state = new(new T());

    /// <inheritdoc/>
    public T State
    {
        get => _state.State!;
        set => _state.State = value;
    }

    /// <inheritdoc/>
    public string Etag => _state.ETag!;

    /// <inheritdoc/>
    public bool RecordExists => _state.RecordExists;

    /// <inheritdoc/>
    public async Task ReadStateAsync()
    {
        await _storage.ReadStateAsync(name, grain, _state);
        _state.State ??= new T();
    }

    /// <inheritdoc/>
    public Task WriteStateAsync() => _storage.WriteStateAsync(name, grain, _state);

    /// <inheritdoc/>
    public Task ClearStateAsync() => _storage.ClearStateAsync(name, grain, _state);
}
