using System.Runtime.CompilerServices;
using Sandbox.Abstractions;

namespace Sandbox.Client.Output;

/// <summary>
/// Joins the log and the live stream into one sequence without gap or repeat. The log is the truth. The stream makes it quick: a batch that continues
/// exactly where the reader stands is used as it is; anything else only says that the log is worth a look.
/// </summary>
internal static class OutputReader
{
    public static async IAsyncEnumerable<OutputEvent> ReadAsync(
        OutputLog log, OutputFeed feed, SandboxClientOptions options, long fromSeq, [EnumeratorCancellation] CancellationToken cancellationToken)
    {
        var next = fromSeq;
        using var abandon = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        Task<OutputPage?>? poll = null;
        Task<bool>? live = null;
        var caughtUp = false;
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
                    poll = log.ReadAsync(next, caughtUp ? IOutputGrain.MaxWait : TimeSpan.Zero, abandon.Token);
                }

                // A look that is under way goes on beside the stream: what the stream lost, or never brings, costs no time.
                await Task.WhenAny(poll ?? (Task)live, live);
                cancellationToken.ThrowIfCancellationRequested();
                IReadOnlyList<OutputEvent> events;
                var complete = false;
                if (poll is { IsCompleted: true })
                {
                    var page = await poll;
                    poll = null;

                    // Where nobody has more of the log, the stream may still have brought some.
                    events = page?.Events ?? feed.Take(next, out _);
                    complete = page?.Complete ?? true;
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
}
