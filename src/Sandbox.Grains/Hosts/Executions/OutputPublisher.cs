using System.Threading.Channels;
using Microsoft.Extensions.Logging;
using Orleans.Streams;
using Sandbox.Abstractions;

namespace Sandbox.Grains.Hosts.Executions;

/// <summary>
/// Publishes one execution's events on its Orleans stream. A notification only: whatever is dropped here (the stream is slow, fails, or the
/// silo that carries it dies) readers find in the log. So it never waits and never fails its caller.
/// </summary>
internal sealed class OutputPublisher : IAsyncDisposable
{
    private const int MaxBatchBytes = 64 * 1024;

    private readonly Channel<IReadOnlyList<OutputEvent>> _queue =
        Channel.CreateBounded<IReadOnlyList<OutputEvent>>(new BoundedChannelOptions(64) { FullMode = BoundedChannelFullMode.DropOldest, SingleReader = true });

    private readonly Func<OutputBatch, Task> _send;
    private readonly ILogger _logger;
    private readonly Task _loop;

    public OutputPublisher(Func<OutputBatch, Task> send, ILogger logger)
    {
        _send = send;
        _logger = logger;
        _loop = Task.Run(LoopAsync);
    }

    /// <summary>A publisher to the stream of an execution.</summary>
    public static OutputPublisher ForStream(IStreamProvider provider, string executionId, ILogger logger)
    {
        var stream = provider.GetStream<OutputBatch>(StreamId.Create(OutputStreams.Namespace, executionId));
        return new OutputPublisher(batch => stream.OnNextAsync(batch), logger);
    }

    public void Publish(IReadOnlyList<OutputEvent> events) => _queue.Writer.TryWrite(events);

    public async ValueTask DisposeAsync()
    {
        _queue.Writer.TryComplete();
        await _loop;
    }

    private async Task LoopAsync()
    {
        var failures = 0;
        while (await _queue.Reader.WaitToReadAsync())
        {
            var events = new List<OutputEvent>();
            var bytes = 0;
            while (bytes < MaxBatchBytes && _queue.Reader.TryRead(out var more))
            {
                events.AddRange(more);
                bytes += more.Sum(e => e.Data.Length);
            }

            try
            {
                await _send(new OutputBatch(events)).WaitAsync(TimeSpan.FromSeconds(5));
                failures = 0;
            }
            catch (Exception e)
            {
                if (failures++ == 0)
                {
                    _logger.LogWarning(e, "Live output cannot be published; readers follow the log instead");
                }
            }
        }
    }
}
