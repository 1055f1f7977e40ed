using CsCheck;
using Sandbox.Abstractions;
using Sandbox.Client.Output;
using Xunit;

namespace Sandbox.Client.Tests;

/// <summary>Whatever the stream does and however often the log cannot be reached, a reader sees each event once and in order.</summary>
public sealed class OutputReaderTests
{
    private static readonly SandboxClientOptions Options = new() { StreamSilence = TimeSpan.FromMilliseconds(1), RetryDeadline = TimeSpan.FromSeconds(60) };

    [Fact]
    public void Output_has_no_gap_and_no_repeat_whatever_the_stream_does() =>
        Gen.Select(Gen.Int[1, 120], Gen.Int[1, 60], Gen.Int, Gen.Bool, Gen.Int[1, 30]).Sample(
            (count, from, seed, streamed, pageSize) => RunAsync(count, Math.Min(from, count), seed, streamed, pageSize).GetAwaiter().GetResult(),
            iter: 150, threads: 2);

    [Fact]
    public async Task A_log_that_is_gone_is_said_and_the_subscription_is_taken_back()
    {
        var unsubscribed = 0;
        var feed = new OutputFeed(_ => Task.FromResult<Func<Task>>(() =>
        {
            unsubscribed++;
            return Task.CompletedTask;
        }));
        var e = await Assert.ThrowsAsync<SandboxException>(async () =>
        {
            await foreach (var _ in OutputReader.ReadAsync(Log((_, _, _, _) => throw SandboxException.NotFound("gone"), ended: true), feed, Options, 1, CancellationToken.None))
            {
            }
        });
        Assert.Equal(SandboxErrorCode.NotFound, e.Code);
        Assert.Equal(1, unsubscribed);
    }

    [Fact]
    public async Task A_reader_that_gives_up_takes_its_subscription_back()
    {
        var log = new ScriptedLog(5, 100, new Random(1), failures: false);
        log.Grow(3);
        var unsubscribed = 0;
        var feed = new OutputFeed(_ => Task.FromResult<Func<Task>>(() =>
        {
            unsubscribed++;
            return Task.CompletedTask;
        }));
        await foreach (var e in OutputReader.ReadAsync(Log((_, from, wait, ct) => log.ReadAsync(from, wait, ct)), feed, Options, 1, CancellationToken.None))
        {
            if (e.Seq == 3)
            {
                break;
            }
        }

        Assert.Equal(1, unsubscribed);
    }

    /// <summary>A log that stays where it is.</summary>
    private static OutputLog Log(ReadPage read, bool ended = false) => new("host", read, _ => Task.FromResult(new Whereabouts("host", ended, Lost: false, Waiting: false)), Options);

    private static async Task RunAsync(int count, int from, int seed, bool streamed, int pageSize)
    {
        var random = new Random(seed);
        var log = new ScriptedLog(count, pageSize, random, failures: true);
        Func<OutputBatch, Task>? deliver = null;
        var subscribed = new TaskCompletionSource();
        var feed = new OutputFeed(streamed
            ? d =>
            {
                deliver = d;
                subscribed.TrySetResult();
                return Task.FromResult<Func<Task>>(() => Task.CompletedTask);
            }
        : null);
        var reader = Task.Run(async () =>
        {
            var seen = new List<OutputEvent>();
            await foreach (var e in OutputReader.ReadAsync(Log((_, from, wait, ct) => log.ReadAsync(from, wait, ct)), feed, Options, from, CancellationToken.None))
            {
                seen.Add(e);
            }

            return seen;
        });
        if (streamed)
        {
            await subscribed.Task;
        }

        var late = new List<OutputBatch>();
        while (log.Length < count)
        {
            var batch = new OutputBatch(log.Grow(random.Next(1, 8)));
            switch (random.Next(6))
            {
                case 0: // lost
                    break;
                case 1: // twice
                    await Deliver(batch);
                    await Deliver(batch);
                    break;
                case 2: // late and out of order
                    late.Add(batch);
                    break;
                default:
                    await Deliver(batch);
                    break;
            }

            if (late.Count > 0 && random.Next(3) == 0)
            {
                await Deliver(late[^1]);
                late.RemoveAt(late.Count - 1);
            }

            await Task.Yield();
        }

        var read = await reader.WaitAsync(TimeSpan.FromSeconds(60));
        Assert.Equal(Enumerable.Range(from, count - from + 1).Select(n => (long)n), read.Select(e => e.Seq));
        Assert.All(read, e => Assert.Equal(ScriptedLog.DataOf(e.Seq), e.Data[0]));

        Task Deliver(OutputBatch batch) => deliver?.Invoke(batch) ?? Task.CompletedTask;
    }

    /// <summary>A log that grows, pages, and now and then cannot be reached.</summary>
    private sealed class ScriptedLog(int count, int pageSize, Random random, bool failures)
    {
        private readonly Lock _gate = new();
        private readonly List<OutputEvent> _events = [];
        private TaskCompletionSource _grown = new(TaskCreationOptions.RunContinuationsAsynchronously);

        public int Length
        {
            get
            {
                lock (_gate)
                {
                    return _events.Count;
                }
            }
        }

        public static byte DataOf(long seq) => (byte)(seq * 31);

        public IReadOnlyList<OutputEvent> Grow(int by)
        {
            TaskCompletionSource grown;
            List<OutputEvent> added = [];
            lock (_gate)
            {
                for (var i = 0; i < by && _events.Count < count; i++)
                {
                    var seq = _events.Count + 1;
                    _events.Add(new OutputEvent(seq, seq == count ? OutputKind.Exit : OutputKind.Stdout, DateTimeOffset.UnixEpoch, [DataOf(seq)]));
                    added.Add(_events[^1]);
                }

                grown = _grown;
                _grown = new(TaskCreationOptions.RunContinuationsAsynchronously);
            }

            grown.TrySetResult();
            return added;
        }

        public async Task<OutputPage> ReadAsync(long fromSeq, TimeSpan wait, CancellationToken cancellationToken)
        {
            Task grown;
            lock (_gate)
            {
                if (failures && random.Next(12) == 0)
                {
                    throw random.Next(2) == 0 ? SandboxException.Unavailable("the silo died") : new TimeoutException("no answer");
                }

                grown = _grown.Task;
                if (fromSeq <= _events.Count || wait == TimeSpan.Zero)
                {
                    return Page(fromSeq);
                }
            }

            await Task.WhenAny(grown, Task.Delay(wait, cancellationToken));
            cancellationToken.ThrowIfCancellationRequested();
            lock (_gate)
            {
                return Page(fromSeq);
            }
        }

        private OutputPage Page(long fromSeq)
        {
            var events = _events.Skip((int)fromSeq - 1).Take(pageSize).ToList();
            var next = fromSeq + events.Count;
            return new OutputPage { Events = events, NextSeq = next, Complete = next > count && _events.Count == count };
        }
    }
}
