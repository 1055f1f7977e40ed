using System.Runtime.ExceptionServices;
using Sandbox.Abstractions;

namespace Sandbox.Client.Output;

/// <summary>Reads a page of the log on a host: from a number on, waiting so long for the first event.</summary>
internal delegate Task<OutputPage> ReadPage(string hostId, long fromSeq, TimeSpan wait, CancellationToken cancellationToken);

/// <summary>Asks the session where an execution is now. Never wakes the session.</summary>
internal delegate Task<Whereabouts> Locate(CancellationToken cancellationToken);

/// <summary>
/// One execution's log, on whatever host it is. A session that was paused may go on elsewhere: the log there continues the sequence, so following it is a matter of asking the session where it is
/// whenever the place that was read last has no more, or cannot be reached.
/// </summary>
internal sealed class OutputLog(string hostId, ReadPage read, Locate locate, SandboxClientOptions options)
{
    private static readonly TimeSpan FirstPause = TimeSpan.FromMilliseconds(50);
    private static readonly TimeSpan LongestPause = TimeSpan.FromSeconds(1);
    private string _hostId = hostId;
    private long _troubleSince;
    private TimeSpan _pause = FirstPause;
    private bool _knownLost;

    /// <summary>The next page, once there is one. Waits out pauses of the session, and for the retry deadline what cannot be reached.</summary>
    /// <returns>The page, or <see langword="null"/>: the execution was lost, and there is no more of its log.</returns>
    /// <exception cref="SandboxException">There is no such log, or nobody could be reached before the deadline.</exception>
    public async Task<OutputPage?> ReadAsync(long fromSeq, TimeSpan wait, CancellationToken cancellationToken)
    {
        while (true)
        {
            var (page, trouble) = await TryAsync(() => read(_hostId, fromSeq, wait, cancellationToken), cancellationToken);
            if (page is { Suspended: false } or { Events.Count: > 0 } or { Complete: true })
            {
                TroubleIsOver();
                return page;
            }

            // What comes next may have been there for long.
            wait = TimeSpan.Zero;
            if (trouble is not null && !IsGone(trouble) && !IsUnreachable(trouble))
            {
                ExceptionDispatchInfo.Throw(trouble);
            }

            var (now, silence) = await TryAsync(() => locate(cancellationToken), cancellationToken);
            if (now is null)
            {
                await PauseForTroubleAsync(silence!, null, cancellationToken);
            }
            else if (now.HostId != _hostId)
            {
                _hostId = now.HostId;
                TroubleIsOver();
            }
            else if (!await StayAsync(now, trouble, cancellationToken))
            {
                return null;
            }
        }
    }

    /// <summary>The session names the place that was just read: whether, and when, it is worth another look.</summary>
    private async Task<bool> StayAsync(Whereabouts now, Exception? trouble, CancellationToken cancellationToken)
    {
        if (now.Lost && (trouble is null || IsGone(trouble)))
        {
            // The last look may have been just before the end was written.
            (var again, _knownLost) = (!_knownLost, true);
            return again;
        }

        if (trouble is not null && IsGone(trouble) && now.Ended)
        {
            ExceptionDispatchInfo.Throw(trouble);
        }

        if (!now.Ended && (now.Waiting || trouble is null))
        {
            TroubleIsOver();
            await Task.Delay(options.PausedPoll, cancellationToken);
            return true;
        }

        return await PauseForTroubleAsync(trouble ?? SandboxException.Unavailable("its log is not finished yet"), now, cancellationToken);
    }

    private async Task<bool> PauseForTroubleAsync(Exception trouble, Whereabouts? now, CancellationToken cancellationToken)
    {
        if (!IsUnreachable(trouble) && !IsGone(trouble))
        {
            ExceptionDispatchInfo.Throw(trouble);
        }

        if (now is null && IsGone(trouble))
        {
            // The session itself does not exist.
            ExceptionDispatchInfo.Throw(trouble);
        }

        var at = Environment.TickCount64;
        _troubleSince = _troubleSince == 0 ? at : _troubleSince;
        if (at - _troubleSince > options.RetryDeadline.TotalMilliseconds)
        {
            return now is { Lost: true } ? false : throw SandboxException.Unavailable($"The output could not be read for {options.RetryDeadline.TotalSeconds:0} s: {trouble.Message}");
        }

        await Task.Delay(_pause, cancellationToken);
        _pause = _pause * 2 < LongestPause ? _pause * 2 : LongestPause;
        return true;
    }

    private void TroubleIsOver() => (_troubleSince, _pause, _knownLost) = (0, FirstPause, false);

    private static bool IsGone(Exception e) => e is SandboxException { Code: SandboxErrorCode.NotFound };

    private static bool IsUnreachable(Exception e) => e is SandboxException { Code: SandboxErrorCode.Unavailable or SandboxErrorCode.DeadlineExceeded } || Caller.IsLost(e);

    private static async Task<(T? Answer, Exception? Trouble)> TryAsync<T>(Func<Task<T>> call, CancellationToken cancellationToken)
        where T : class
    {
        try
        {
            return (await call(), null);
        }
        catch (Exception e) when (!cancellationToken.IsCancellationRequested)
        {
            return (null, e);
        }
    }
}
