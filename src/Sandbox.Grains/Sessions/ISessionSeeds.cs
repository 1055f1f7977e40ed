using Orleans.Concurrency;
using Sandbox.Grains.Sessions.State;

namespace Sandbox.Grains.Sessions;

/// <summary>What a session tells a new one that begins with a checkpoint of it. The same grain as <c>ISessionGrain</c>; among silos only.</summary>
[Alias("sandbox.ISessionSeeds")]
internal interface ISessionSeeds : IGrainWithStringKey
{
    /// <summary>The session and a checkpoint of it, if they are the tenant's that the call is made for.</summary>
    [Alias("seed"), AlwaysInterleave]
    Task<SessionSeed> GetSeedAsync(string checkpointId);
}

/// <summary>What a new session begins with.</summary>
[GenerateSerializer, Alias("sandbox.state.session-seed"), Immutable]
internal sealed record SessionSeed
{
    [Id(0)] public SessionDocument Session { get; init; } = new();

    [Id(1)] public CheckpointDocument Checkpoint { get; init; } = new();
}

/// <summary>How many sessions a fork makes at once: carried beside the create call, because it is no property of the session.</summary>
internal static class ForkContext
{
    private const string Key = "sandbox.siblings";

    public static int Siblings => RequestContext.Get(Key) is int siblings ? siblings : 1;

    public static void Set(int siblings) => RequestContext.Set(Key, siblings);
}
