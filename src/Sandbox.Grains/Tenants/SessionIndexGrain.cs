using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Options;
using Sandbox.Abstractions;

namespace Sandbox.Grains.Tenants;

/// <summary>What is stored of a shard of the index.</summary>
[GenerateSerializer, Alias("sandbox.state.session-index")]
internal sealed record SessionIndexState
{
    [Id(0)] public List<SessionIndexEntry> Entries { get; set; } = [];
}

/// <summary>
/// One shard of a tenant's sessions. A server that dies while it makes a session may leave an entry without one, which would count against the tenant's quota for ever; it can only be among the newest, so those are looked at once,
/// some time after the shard is activated.
/// </summary>
internal sealed class SessionIndexGrain(
    [PersistentState("session-index", StorageNames.Provider)] IPersistentState<SessionIndexState> state, IOptions<SessionOptions> options, IGrainFactory grains, ILogger<SessionIndexGrain> logger) : Grain, ISessionIndexGrain
{
    private const int Newest = 16;
    private readonly HashSet<string> _added = new(StringComparer.Ordinal);

    public override Task OnActivateAsync(CancellationToken cancellationToken)
    {
        if (state.State.Entries.Count > 0)
        {
            this.RegisterGrainTimer(RemoveUnmadeAsync, [.. state.State.Entries.TakeLast(Newest).Select(e => e.SessionId)], options.Value.IndexCheckDelay, Timeout.InfiniteTimeSpan);
        }

        return Task.CompletedTask;
    }

    public Task AddAsync(string sessionId, DateTimeOffset createdAt)
    {
        _added.Add(sessionId);
        return state.State.Entries.Exists(e => e.SessionId == sessionId)
            ? Task.CompletedTask
            : WriteAsync([.. state.State.Entries, new SessionIndexEntry(sessionId, createdAt)]);
    }

    public Task RemoveAsync(string sessionId) =>
        state.State.Entries.Exists(e => e.SessionId == sessionId)
            ? WriteAsync([.. state.State.Entries.Where(e => e.SessionId != sessionId)])
            : Task.CompletedTask;

    public Task<IReadOnlyList<SessionIndexEntry>> ListAsync() => Task.FromResult<IReadOnlyList<SessionIndexEntry>>([.. state.State.Entries.OrderBy(e => e.CreatedAt)]);

    private async Task RemoveUnmadeAsync(List<string> sessions)
    {
        TenantContext.Set(TenantContext.System);
        foreach (var id in sessions)
        {
            try
            {
                await grains.GetGrain<ISessionGrain>(id).GetAsync();
            }
            catch (SandboxException e) when (e.Code == SandboxErrorCode.NotFound && !_added.Contains(id))
            {
                // Not one that is just being made, perhaps again: that would have been added since.
                logger.LogInformation("Session {Session} was never made and leaves the index", id);
                await RemoveAsync(id);
            }
            catch (Exception e)
            {
                logger.LogDebug(e, "Session {Session} cannot be asked now", id);
            }
        }
    }

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
