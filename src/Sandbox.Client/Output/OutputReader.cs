using System.Runtime.CompilerServices;
using Sandbox.Abstractions;

namespace Sandbox.Client.Output;

/// <summary>Reads a page of the log: from a number on, waiting so long for the first event.</summary>
internal delegate Task<OutputPage> ReadPage(long fromSeq, TimeSpan wait, CancellationToken cancellationToken);

/// <summary>
/// Joins the log and the live stream into one sequence without gap or repeat. The log is the truth. The stream makes it quick: a batch that continues
/// exactly where the reader stands is used as it is; anything else only says that the log is worth a look.
/// </summary>
internal static class OutputReader
{
    private static readonly TimeSpan FirstPause = TimeSpan.FromMilliseconds(50);
    private static readonly TimeSpan LongestPause = TimeSpan.FromSeconds(1);

    public static async IAsyncEnumerable<OutputEvent> ReadAsync(
        ReadPage readPage, OutputFeed feed, SandboxClientOptions options, long fromSeq, [EnumeratorCancellation] CancellationToken cancellationToken)
    {
        var next = fromSeq;
        using var abandon = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        Task<OutputPage>? poll = null;
        Task<bool>? live = null;
        var caughtUp = false;
        var trouble = new Trouble(options.RetryDeadline);
        feed.Open();
        try
        {
            while (true)
            {
                live ??= feed.Batches.WaitToReadAsync(abandon.Token).AsTask();
                if (poll is null && caughtUp && feed.IsLive)
                {
                    // At the tail the stream goes first; only its silence is worth a look at the log.
                    await Task.WhenAny(live, Task.Delay(options.StreamSilence, abandon.Token));
                }

                if (poll is null && !live.IsCompleted)
                {
                    poll = readPage(next, caughtUp ? IOutputGrain.MaxWait : TimeSpan.Zero, abandon.Token);
                }

                // A look that is under way goes on beside the stream: what the stream lost, or never brings, costs no time.
                await Task.WhenAny(poll ?? (Task)live, live);
                cancellationToken.ThrowIfCancellationRequested();
                IReadOnlyList<OutputEvent> events;
                var complete = false;
                if (poll is { IsCompleted: true })
                {
                    var (page, error) = Outcome(poll);
                    poll = null;
                    if (page is null)
                    {
                        await trouble.WaitAsync(error!, cancellationToken);
                        caughtUp = false;
                        continue;
                    }

                    trouble.Over();
                    events = page.Events;
                    complete = page.Complete;
                    caughtUp = events.Count == 0;
                }
                else
                {
                    live = null;
                    events = feed.Take(next, out var gap);
                    caughtUp &= !gap;
                }

                foreach (var e in events)
                {
                    if (e.Seq != next)
                    {
                        // Seen already (the stream was quicker). Never a number too high: pages and what is taken from the stream are without gaps.
                        continue;
                    }

                    next++;
                    yield return e;
                    if (e.Kind == OutputKind.Exit)
                    {
                        yield break;
                    }
                }

                if (complete)
                {
                    yield break;
                }
            }
        }
        finally
        {
            await abandon.CancelAsync();
            if (poll is not null)
            {
                await ((Task)poll).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            }

            await feed.CloseAsync();
        }
    }

    private static (OutputPage? Page, Exception? Error) Outcome(Task<OutputPage> poll) =>
        poll.IsCompletedSuccessfully ? (poll.Result, null) : (null, poll.Exception?.InnerException ?? new OperationCanceledException());

    /// <summary>Counts how long nobody could be reached.</summary>
    private sealed class Trouble(TimeSpan deadline)
    {
        private long _since;
        private TimeSpan _pause = FirstPause;

        public void Over() => (_since, _pause) = (0, FirstPause);

        public async Task WaitAsync(Exception error, CancellationToken cancellationToken)
        {
            cancellationToken.ThrowIfCancellationRequested();
            if (error is not SandboxException { Code: SandboxErrorCode.Unavailable or SandboxErrorCode.DeadlineExceeded } && !Caller.IsLost(error))
            {
                System.Runtime.ExceptionServices.ExceptionDispatchInfo.Throw(error);
            }

            var now = Environment.TickCount64;
            _since = _since == 0 ? now : _since;
            if (now - _since > deadline.TotalMilliseconds)
            {
                throw SandboxException.Unavailable($"The output could not be read for {deadline.TotalSeconds:0} s: {error.Message}");
            }

            await Task.Delay(_pause, cancellationToken);
            _pause = _pause * 2 < LongestPause ? _pause * 2 : LongestPause;
        }
    }
}
