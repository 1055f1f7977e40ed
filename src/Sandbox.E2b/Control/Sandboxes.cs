using Sandbox.Abstractions;

namespace Sandbox.E2b.Control;

/// <summary>Sessions of the caller's, as sandboxes: one that has ended is not there any more.</summary>
internal sealed class Sandboxes(IGrainFactory grains)
{
    /// <summary>How long a call waits for what it began.</summary>
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);
    private static readonly TimeSpan LongestCall = TimeSpan.FromSeconds(20);

    /// <summary>A sandbox that is there.</summary>
    /// <exception cref="SandboxException"><see cref="SandboxErrorCode.NotFound"/>: it never was, has ended, or is another's.</exception>
    public async Task<SessionInfo> FindAsync(string sandboxId)
    {
        var info = E2bIds.ToSession(sandboxId) is { } session ? await GetOrNullAsync(session) : null;
        return info is { Sealed: false } && !HasEnded(info) ? info : throw SandboxException.NotFound($"There is no sandbox '{(sandboxId.Length <= 64 ? sandboxId : sandboxId[..64] + "…")}'.");
    }

    /// <summary>A session, or <see langword="null"/>.</summary>
    public async Task<SessionInfo?> GetOrNullAsync(string sessionId)
    {
        try
        {
            return await grains.GetGrain<ISessionGrain>(sessionId).GetAsync();
        }
        catch (SandboxException e) when (e.Code == SandboxErrorCode.NotFound)
        {
            return null;
        }
    }

    /// <summary>All sessions of the caller's that have not ended, in the order they were made, from a cursor on. Sealed ones or the others.</summary>
    public async IAsyncEnumerable<(SessionInfo Info, string Order)> ListAsync(bool isSealed, bool newestFirst, string? after)
    {
        var tenant = TenantContext.Current!;
        var shards = await Task.WhenAll(Enumerable.Range(0, ISessionIndexGrain.Shards).Select(s => grains.GetGrain<ISessionIndexGrain>($"{tenant}/{s}").ListAsync()));
        var entries = shards.SelectMany(s => s).Select(e => (e.SessionId, Order: $"{e.CreatedAt.UtcTicks:x16}.{e.SessionId}"));
        entries = newestFirst ? entries.OrderByDescending(e => e.Order, StringComparer.Ordinal) : entries.OrderBy(e => e.Order, StringComparer.Ordinal);
        if (!string.IsNullOrEmpty(after))
        {
            entries = entries.Where(e => newestFirst ? string.CompareOrdinal(e.Order, after) < 0 : string.CompareOrdinal(e.Order, after) > 0);
        }

        foreach (var batch in entries.Chunk(32))
        {
            // The caller of an iterator may have changed the context in between.
            TenantContext.Set(tenant);
            var infos = await Task.WhenAll(batch.Select(e => GetOrNullAsync(e.SessionId)));
            for (var i = 0; i < batch.Length; i++)
            {
                if (infos[i] is { } info && info.Sealed == isSealed && !HasEnded(info))
                {
                    yield return (info, batch[i].Order);
                }
            }
        }
    }

    /// <summary>The session once it is in no transitional state.</summary>
    /// <exception cref="SandboxException"><see cref="SandboxErrorCode.DeadlineExceeded"/>: that takes too long.</exception>
    public async Task<SessionInfo> SettleAsync(SessionInfo info, CancellationToken cancellationToken)
    {
        var session = grains.GetGrain<ISessionGrain>(info.Id);
        var until = Environment.TickCount64 + (long)Patience.TotalMilliseconds;
        while (info.State is SessionState.Creating or SessionState.Pausing or SessionState.Resuming)
        {
            cancellationToken.ThrowIfCancellationRequested();
            var rest = TimeSpan.FromMilliseconds(until - Environment.TickCount64);
            if (rest <= TimeSpan.Zero)
            {
                throw new SandboxException(SandboxErrorCode.DeadlineExceeded, $"The sandbox is {info.State.ToString().ToLowerInvariant()} still after {Patience.TotalSeconds:0} s.");
            }

            info = await session.WaitUntilSettledAsync(rest < LongestCall ? rest : LongestCall);
        }

        return info;
    }

    /// <summary>The session once it runs.</summary>
    /// <exception cref="SandboxException"><see cref="SandboxErrorCode.Unavailable"/>: it did not come to run; the message says why.</exception>
    public async Task<SessionInfo> UntilRunningAsync(SessionInfo info, CancellationToken cancellationToken)
    {
        info = await SettleAsync(info, cancellationToken);
        return info.State == SessionState.Running ? info : throw SandboxException.Unavailable($"The sandbox does not run: {info.Cause}");
    }

    private static bool HasEnded(SessionInfo info) => info.State is SessionState.Terminated or SessionState.Failed or SessionState.None;
}
