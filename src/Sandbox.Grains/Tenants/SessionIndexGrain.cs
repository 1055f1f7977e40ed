using Microsoft.Extensions.Logging;
using Sandbox.Abstractions;
using Sandbox.Grains.Sessions.State;

namespace Sandbox.Grains.Tenants;

/// <summary>What is stored of a shard of the index. Immutable: a change is a new one that becomes true once it is written.</summary>
[GenerateSerializer, Alias("sandbox.state.session-index"), Immutable]
internal sealed record SessionIndexState
{
    [Id(0)] public List<SessionIndexEntry> Entries { get; init; } = [];
}

/// <summary>One shard of a tenant's sessions. Calls interleave: what comes while a write is under way is in the next one together.</summary>
internal sealed class SessionIndexGrain : Grain, ISessionIndexGrain
{
    private readonly Durable<SessionIndexState> _index;

    public SessionIndexGrain(
        [PersistentState("session-index", StorageNames.Provider)] IPersistentState<SessionIndexState> state, ILogger<SessionIndexGrain> logger) =>
        _index = new Durable<SessionIndexState>(state, "The index of sessions", logger, DeactivateOnIdle);

    public override Task OnActivateAsync(CancellationToken cancellationToken)
    {
        _index.Load();
        return Task.CompletedTask;
    }

    public Task AddAsync(string sessionId, DateTimeOffset createdAt) => _index.UpdateAsync(d => d.Entries.Exists(e => e.SessionId == sessionId)
        ? d
        : d with { Entries = [.. d.Entries, new SessionIndexEntry(sessionId, createdAt)] });

    public Task RemoveAsync(string sessionId) => _index.UpdateAsync(d => d.Entries.Exists(e => e.SessionId == sessionId)
        ? d with { Entries = [.. d.Entries.Where(e => e.SessionId != sessionId)] }
        : d);

    public Task<int> CountAsync() => Task.FromResult(_index.Current.Entries.Count);

    public Task<IReadOnlyList<SessionIndexEntry>> ListAsync() => Task.FromResult<IReadOnlyList<SessionIndexEntry>>([.. _index.Current.Entries.OrderBy(e => e.CreatedAt)]);
}
