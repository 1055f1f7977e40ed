using System.Threading.Channels;
using Orleans.Streams;
using Sandbox.Abstractions;

namespace Sandbox.Client.Output;

/// <summary>Live batches of one execution, from its Orleans stream. They may be missing, repeated or out of order: a hint, not the truth.</summary>
internal sealed class OutputFeed(Func<Func<OutputBatch, Task>, Task<Func<Task>>>? subscribe)
{
    /// <summary>A reader that is slower than the stream loses the oldest: the log has them.</summary>
    private readonly Channel<OutputBatch> _batches =
        Channel.CreateBounded<OutputBatch>(new BoundedChannelOptions(256) { FullMode = BoundedChannelFullMode.DropOldest });

    private Task<Func<Task>>? _subscription;

    public ChannelReader<OutputBatch> Batches => _batches.Reader;

    /// <summary>The stream is subscribed to, so its silence means something.</summary>
    public bool IsLive => _subscription is { IsCompletedSuccessfully: true };

    /// <summary>
    /// Takes all that has come, and returns what continues the sequence at <paramref name="next"/>. The rest is dropped: it is old, or it lies beyond a gap, and the log has it.
    /// </summary>
    public List<OutputEvent> Take(long next, out bool gap)
    {
        var events = new List<OutputEvent>();
        gap = false;
        while (_batches.Reader.TryRead(out var batch))
        {
            foreach (var e in batch.Events)
            {
                if (e.Seq == next)
                {
                    events.Add(e);
                    next++;
                }
                else
                {
                    gap |= e.Seq > next;
                }
            }
        }

        return events;
    }

    public static OutputFeed ForStream(IStreamProvider? provider, string executionId, Caller caller) =>
        provider is null ? new OutputFeed(null) : new OutputFeed(async deliver =>
        {
            var stream = provider.GetStream<OutputBatch>(StreamId.Create(OutputStreams.Namespace, executionId));
            var handle = await caller.OnceAsync(() => stream.SubscribeAsync((batch, _) => deliver(batch)), CancellationToken.None);
            return () => caller.OnceAsync(handle.UnsubscribeAsync, CancellationToken.None);
        });

    /// <summary>Begins to subscribe; reading need not wait for it.</summary>
    public void Open() => _subscription ??= subscribe?.Invoke(batch =>
    {
        _batches.Writer.TryWrite(batch);
        return Task.CompletedTask;
    });

    /// <summary>Takes the subscription back, always: one that is left behind would be delivered to for ever.</summary>
    public async Task CloseAsync()
    {
        if (_subscription is null)
        {
            return;
        }

        for (var attempt = 0; attempt < 3; attempt++)
        {
            try
            {
                await (await _subscription)();
                return;
            }
            catch (Exception e) when (e is SandboxException or OrleansException or TimeoutException or InvalidOperationException)
            {
                if (_subscription.IsFaulted)
                {
                    return;
                }

                await Task.Delay(TimeSpan.FromMilliseconds(200));
            }
        }
    }
}
