using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Options;
using Sandbox.Abstractions;
using Sandbox.Grains.Sessions.State;

namespace Sandbox.Grains.Tenants;

/// <summary>What is stored of a shard of the index. Immutable: a change is a new one that becomes true once it is written.</summary>
[GenerateSerializer, Alias("sandbox.state.session-index"), Immutable]
internal sealed record SessionIndexState
{
    [Id(0)] public List<SessionIndexEntry> Entries { get; init; } = [];
}

/// <summary>
/// One shard of a tenant's sessions. Calls interleave: what comes while a write is under way is in the next one together. A server that dies while it makes a session may leave an entry without one, which would count for ever
/// among the sessions that the tenant may have. It can only be among the newest, so those are looked at once, some time after the shard is activated.
/// </summary>
internal sealed class SessionIndexGrain : Grain, ISessionIndexGrain
{
    /// <summary>More sessions of one shard than a dying server can have been making.</summary>
    private const int Newest = 64;
    private readonly Durable<SessionIndexState> _index;
    private readonly HashSet<string> _doubtful = new(StringComparer.Ordinal);
    private readonly TimeSpan _checkDelay;
    private readonly IGrainFactory _grains;
    private readonly ILogger _logger;

    public SessionIndexGrain(
        [PersistentState("session-index", StorageNames.Provider)] IPersistentState<SessionIndexState> state, IOptions<SessionOptions> options, IGrainFactory grains, ILogger<SessionIndexGrain> logger)
    {
        _index = new Durable<SessionIndexState>(state, "The index of sessions", logger, DeactivateOnIdle);
        _checkDelay = options.Value.IndexCheckDelay;
        _grains = grains;
        _logger = logger;
    }

    public override Task OnActivateAsync(CancellationToken cancellationToken)
    {
        _index.Load();
        _doubtful.UnionWith(_index.Current.Entries.TakeLast(Newest).Select(e => e.SessionId));
        if (_doubtful.Count > 0)
        {
            this.RegisterGrainTimer(RemoveUnmadeAsync, new GrainTimerCreationOptions(_checkDelay, Timeout.InfiniteTimeSpan) { Interleave = true });
        }

        return Task.CompletedTask;
    }

    public Task AddAsync(string sessionId, DateTimeOffset createdAt)
    {
        // It is being made now, perhaps again: nothing is doubtful about it.
        _doubtful.Remove(sessionId);
        return _index.UpdateAsync(d => d.Entries.Exists(e => e.SessionId == sessionId)
            ? d
            : d with { Entries = [.. d.Entries, new SessionIndexEntry(sessionId, createdAt)] });
    }

    public Task RemoveAsync(string sessionId) => _index.UpdateAsync(d => d.Entries.Exists(e => e.SessionId == sessionId)
        ? d with { Entries = [.. d.Entries.Where(e => e.SessionId != sessionId)] }
        : d);

    public Task<int> CountAsync() => Task.FromResult(_index.Current.Entries.Count);

    public Task<IReadOnlyList<SessionIndexEntry>> ListAsync() => Task.FromResult<IReadOnlyList<SessionIndexEntry>>([.. _index.Current.Entries.OrderBy(e => e.CreatedAt)]);

    private async Task RemoveUnmadeAsync()
    {
        TenantContext.Set(TenantContext.System);
        foreach (var id in _doubtful.ToList())
        {
            try
            {
                await _grains.GetGrain<ISessionGrain>(id).GetAsync();
            }
            catch (SandboxException e) when (e.Code == SandboxErrorCode.NotFound)
            {
                if (_doubtful.Contains(id))
                {
                    _logger.LogInformation("Session {Session} was never made and leaves the index", id);
                    await RemoveAsync(id);
                }
            }
            catch (Exception e)
            {
                _logger.LogDebug(e, "Session {Session} cannot be asked now", id);
            }
        }

        _doubtful.Clear();
    }
}
