using Orleans.Concurrency;

namespace Sandbox.Grains.Sessions;

/// <summary>What a host that is being stopped asks of the sessions it serves. The same grain as <c>ISessionGrain</c>; among silos only.</summary>
[Alias("sandbox.ISessionDrain")]
internal interface ISessionDrain : IGrainWithStringKey
{
    /// <summary>Pauses the session, if it runs on that host and can be saved, and returns once it is paused or cannot be. It is woken again by the next call, and by itself if something was running in it.</summary>
    [Alias("drain"), AlwaysInterleave, ResponseTimeout("00:01:00")]
    Task DrainAsync(string hostId);
}
