using Orleans.Concurrency;

namespace Sandbox.Abstractions;

/// <summary>
/// Which sessions a tenant has. Key: <c>tenant/shard</c>, shard 0 to <see cref="Shards"/> - 1 chosen by the session id's hash, so that creates do not queue behind one grain.
/// Holds ids only; what a session is, its own grain says.
/// </summary>
[Alias("sandbox.ISessionIndexGrain")]
public interface ISessionIndexGrain : IGrainWithStringKey
{
    /// <summary>Number of shards of each tenant.</summary>
    const int Shards = 8;

    /// <summary>Adds a session. Adding it again changes nothing.</summary>
    [Alias("add"), AlwaysInterleave]
    Task AddAsync(string sessionId, DateTimeOffset createdAt);

    /// <summary>Removes a session. Removing an unknown one changes nothing.</summary>
    [Alias("remove"), AlwaysInterleave]
    Task RemoveAsync(string sessionId);

    /// <summary>How many sessions this shard has.</summary>
    [Alias("count"), AlwaysInterleave]
    Task<int> CountAsync();

    /// <summary>All sessions of this shard, oldest first.</summary>
    [Alias("list"), AlwaysInterleave]
    Task<IReadOnlyList<SessionIndexEntry>> ListAsync();
}

/// <summary>One entry of the index.</summary>
[GenerateSerializer, Alias("sandbox.session-index-entry"), Immutable]
public sealed record SessionIndexEntry([property: Id(0)] string SessionId, [property: Id(1)] DateTimeOffset CreatedAt);
