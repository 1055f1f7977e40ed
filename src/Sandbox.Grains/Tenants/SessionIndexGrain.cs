using Sandbox.Abstractions;

namespace Sandbox.Grains.Tenants;

/// <summary>What is stored of a shard of the index.</summary>
[GenerateSerializer, Alias("sandbox.state.session-index")]
internal sealed record SessionIndexState
{
    [Id(0)] public List<SessionIndexEntry> Entries { get; set; } = [];
}

/// <summary>One shard of a tenant's sessions.</summary>
internal sealed class SessionIndexGrain(
    [PersistentState("session-index", StorageNames.Provider)] IPersistentState<SessionIndexState> state) : Grain, ISessionIndexGrain
{
    public Task AddAsync(string sessionId, DateTimeOffset createdAt) =>
        state.State.Entries.Exists(e => e.SessionId == sessionId)
            ? Task.CompletedTask
            : WriteAsync([.. state.State.Entries, new SessionIndexEntry(sessionId, createdAt)]);

    public Task RemoveAsync(string sessionId) =>
        state.State.Entries.Exists(e => e.SessionId == sessionId)
            ? WriteAsync([.. state.State.Entries.Where(e => e.SessionId != sessionId)])
            : Task.CompletedTask;

    public Task<IReadOnlyList<SessionIndexEntry>> ListAsync() => Task.FromResult<IReadOnlyList<SessionIndexEntry>>([.. state.State.Entries.OrderBy(e => e.CreatedAt)]);

    private async Task WriteAsync(List<SessionIndexEntry> entries)
    {
        var before = state.State;
        state.State = new SessionIndexState { Entries = entries };
        try
        {
            await state.WriteStateAsync();
        }
        catch
        {
            state.State = before;
            throw;
        }
    }
}
