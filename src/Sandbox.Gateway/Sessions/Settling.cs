using System.Diagnostics;
using Microsoft.AspNetCore.Http;
using Sandbox.Abstractions;
using Sandbox.Gateway.Http;

namespace Sandbox.Gateway.Sessions;

/// <summary>Verbs begin, and their calls wait for what becomes of it: <c>?wait=</c> seconds, beginning with the making of this.</summary>
internal sealed class Settling(HttpContext context, IGrainFactory grains)
{
    private const int DefaultSeconds = 60;
    private const int MaxSeconds = 60;
    private static readonly TimeSpan LongestCall = TimeSpan.FromSeconds(20);
    private readonly TimeSpan _wait = TimeSpan.FromSeconds(context.QueryInt("wait", DefaultSeconds, 0, MaxSeconds));
    private readonly Stopwatch _clock = Stopwatch.StartNew();

    /// <summary>The session as soon as it is in no transitional state, or as it is when the time is up.</summary>
    public async Task<SessionInfo> WaitAsync(SessionInfo info)
    {
        var session = grains.GetGrain<ISessionGrain>(info.Id);
        while (info.State is SessionState.Creating or SessionState.Pausing or SessionState.Resuming && _clock.Elapsed < _wait && !context.RequestAborted.IsCancellationRequested)
        {
            var rest = _wait - _clock.Elapsed;
            info = await session.WaitUntilSettledAsync(rest < LongestCall ? rest : LongestCall);
        }

        return info;
    }

    /// <summary>The same for sessions that are there already whatever becomes of the waiting: their ids must reach the caller.</summary>
    public Task<SessionInfo[]> WaitAsync(IEnumerable<SessionInfo> infos) => Task.WhenAll(infos.Select(async info =>
    {
        try
        {
            return await WaitAsync(info);
        }
        catch (Exception e) when (e is SandboxException or TimeoutException or Orleans.Runtime.OrleansException)
        {
            return info;
        }
    }));
}
