using System.Threading.Channels;
using Sandbox.Abstractions;

namespace Sandbox.Egress.Log;

/// <summary>
/// The egress log of one session: numbered without a gap, the newest records in memory for readers and in files for later, floods of equal records thinned (<see cref="EgressRecord.Count"/>), sums kept. Goes on from its files when
/// the process starts anew; what was not on disk yet when it died is lost, and its numbers are given again. Safe for concurrent use.
/// </summary>
public sealed class EgressLog : IEgressLog, IAsyncDisposable
{
    private const int MaxUnsaved = 8192;
    private const int MaxReason = 300;
    private readonly EgressLogOptions _options;
    private readonly Lock _gate = new();
    private readonly Queue<EgressRecord> _ring = new();
    private readonly FloodGate _floods = new();
    private readonly ITimer _release;
    private readonly Channel<EgressRecord>? _unsaved;
    private readonly Task _saving = Task.CompletedTask;
    private long _next = 1;
    private bool _ended;
    private EgressCounters _counters = new();
    private TaskCompletionSource _grown = NewSignal();

    /// <summary>Opens a log; reads its files, if there are any.</summary>
    public EgressLog(EgressLogOptions options)
    {
        ArgumentNullException.ThrowIfNull(options);
        _options = options;
        ArgumentOutOfRangeException.ThrowIfLessThan(options.Capacity, 1);
        var state = options.Continues;
        if (options.Directory is not null)
        {
            var files = new EgressLogFiles(options);
            var (records, saved) = files.Read();
            var fromFiles = Math.Max(saved?.NextSeq ?? 1, records.Count > 0 ? records[^1].Seq + 1 : 1);
            if (state is null || fromFiles >= state.NextSeq)
            {
                state = new EgressLogState(fromFiles, saved?.Counters ?? state?.Counters ?? new EgressCounters());
            }

            if (records.Count > 0 && records[^1].Seq + 1 == state.NextSeq)
            {
                records.ForEach(_ring.Enqueue);
            }

            // The disk may be slow or full; then records are missing in the file, and never in memory.
            _unsaved = Channel.CreateBounded<EgressRecord>(new BoundedChannelOptions(MaxUnsaved) { FullMode = BoundedChannelFullMode.DropWrite, SingleReader = true });
            _saving = Task.Run(() => SaveAsync(files, _unsaved.Reader));
        }

        _next = state?.NextSeq ?? 1;
        _counters = state?.Counters ?? new EgressCounters();
        _release = options.Time.CreateTimer(_ => ReleaseHeld(everything: false), null, Timeout.InfiniteTimeSpan, Timeout.InfiniteTimeSpan);
    }

    /// <summary>The sums as of now.</summary>
    public EgressCounters Counters
    {
        get
        {
            lock (_gate)
            {
                return _counters;
            }
        }
    }

    /// <inheritdoc/>
    public void Write(EgressRecord record)
    {
        ArgumentNullException.ThrowIfNull(record);
        var now = _options.Time.GetUtcNow();
        record = record with
        {
            At = now,
            Generation = record.Generation == 0 ? _options.Generation : record.Generation,
            Host = Clean(record.Host, 253),
            Path = Clean(record.Path, 1024),
            Method = Clean(record.Method, 32),
            Reason = Clean(record.Reason, MaxReason),
        };
        TaskCompletionSource? grown = null;
        lock (_gate)
        {
            if (_ended)
            {
                return;
            }

            Count(record);
            var held = _floods.Holds;
            foreach (var due in _floods.Take(record, now))
            {
                grown = Append(due);
            }

            if (_floods.Holds && !held)
            {
                _release.Change(FloodGate.Window, Timeout.InfiniteTimeSpan);
            }
        }

        grown?.TrySetResult();
    }

    /// <summary>Reads records from a number on; waits for some where there are none yet.</summary>
    /// <param name="from">Number of the first; what is not kept any more is passed over (<see cref="EgressPage.First"/>).</param>
    /// <param name="max">Most records, 1 to 1000.</param>
    /// <param name="wait">How long to wait for the first one; at most a minute.</param>
    /// <param name="cancellationToken">Gives up.</param>
    public async Task<EgressPage> ReadAsync(long from, int max, TimeSpan wait, CancellationToken cancellationToken = default)
    {
        max = Math.Clamp(max, 1, 1000);
        wait = wait < TimeSpan.Zero ? TimeSpan.Zero : wait > TimeSpan.FromMinutes(1) ? TimeSpan.FromMinutes(1) : wait;
        var until = _options.Time.GetUtcNow() + wait;
        lock (_gate)
        {
            // A reader may be ahead of a log that lost its last records with its process: it must not miss those that get their numbers.
            from = Math.Min(from, _next);
        }

        while (true)
        {
            Task grown;
            lock (_gate)
            {
                var page = PageFrom(from, max);
                if (page.Records.Count > 0 || _ended)
                {
                    return page;
                }

                grown = _grown.Task;
            }

            var left = until - _options.Time.GetUtcNow();
            if (left <= TimeSpan.Zero)
            {
                lock (_gate)
                {
                    return PageFrom(from, max);
                }
            }

            await Task.WhenAny(grown, Task.Delay(left, _options.Time, cancellationToken)).ConfigureAwait(false);
            cancellationToken.ThrowIfCancellationRequested();
        }
    }

    /// <summary>What is kept, the oldest first. For <see cref="PolicySuggestion.From"/>.</summary>
    public IReadOnlyList<EgressRecord> Kept()
    {
        ReleaseHeld(everything: true);
        lock (_gate)
        {
            return [.. _ring];
        }
    }

    /// <summary>What the log has come to, for going on with it on another host. Write nothing after it: numbers would be given twice.</summary>
    public EgressLogState Export()
    {
        ReleaseHeld(everything: true);
        lock (_gate)
        {
            return new EgressLogState(_next, _counters);
        }
    }

    /// <summary>Writes what is held back, ends those who wait, and saves.</summary>
    public async ValueTask DisposeAsync()
    {
        ReleaseHeld(everything: true);
        lock (_gate)
        {
            _ended = true;
            _grown.TrySetResult();
        }

        await _release.DisposeAsync().ConfigureAwait(false);
        _unsaved?.Writer.TryComplete();
        await _saving.ConfigureAwait(false);
    }

    private void ReleaseHeld(bool everything)
    {
        TaskCompletionSource? grown = null;
        lock (_gate)
        {
            if (_ended)
            {
                return;
            }

            foreach (var due in _floods.Release(_options.Time.GetUtcNow(), everything))
            {
                grown = Append(due);
            }

            if (_floods.Holds)
            {
                _release.Change(FloodGate.Window, Timeout.InfiniteTimeSpan);
            }
        }

        grown?.TrySetResult();
    }

    private TaskCompletionSource Append(EgressRecord record)
    {
        record = record with { Seq = _next++ };
        _ring.Enqueue(record);
        if (_ring.Count > _options.Capacity)
        {
            _ring.Dequeue();
        }

        _unsaved?.Writer.TryWrite(record);
        var grown = _grown;
        _grown = NewSignal();
        return grown;
    }

    private EgressPage PageFrom(long from, int max)
    {
        var first = _ring.Count == 0 ? _next : _ring.Peek().Seq;
        var start = Math.Max(from, first);
        EgressRecord[] records = [.. _ring.Skip((int)Math.Min(start - first, _ring.Count)).Take(max)];
        return new EgressPage(records, records.Length == 0 ? Math.Min(start, _next) : records[^1].Seq + 1, first);
    }

    private void Count(EgressRecord record)
    {
        var passed = record.Outcome is EgressOutcome.Allowed or EgressOutcome.WouldDeny or EgressOutcome.Redacted;
        _counters = _counters.Plus(new EgressCounters
        {
            Connections = record.Kind == EgressRecordKind.Connection && passed ? record.Count : 0,
            Denied = record.Kind is EgressRecordKind.Dns or EgressRecordKind.Connection or EgressRecordKind.Request && record.Outcome is EgressOutcome.Denied or EgressOutcome.Asked ? record.Count : 0,
            Requests = record.Kind == EgressRecordKind.Request ? record.Count : 0,
            DnsQueries = record.Kind == EgressRecordKind.Dns ? record.Count : 0,
            DroppedPackets = record.Kind == EgressRecordKind.Drop ? record.Count : 0,
            BytesUp = record.BytesUp,
            BytesDown = record.BytesDown,
        });
    }

    private async Task SaveAsync(EgressLogFiles files, ChannelReader<EgressRecord> unsaved)
    {
        var batch = new List<EgressRecord>();
        while (await unsaved.WaitToReadAsync().ConfigureAwait(false))
        {
            batch.Clear();
            while (batch.Count < 512 && unsaved.TryRead(out var record))
            {
                batch.Add(record);
            }

            EgressLogState state;
            lock (_gate)
            {
                state = new EgressLogState(batch[^1].Seq + 1, _counters);
            }

            files.Append(batch, state);
        }
    }

    /// <summary>Texts of the guest in one line and of bounded length.</summary>
    private static string? Clean(string? text, int max)
    {
        if (text is null || (text.Length <= max && !text.Any(char.IsControl)))
        {
            return text;
        }

        return string.Concat(text.Take(max).Select(c => char.IsControl(c) ? '\ufffd' : c));
    }

    private static TaskCompletionSource NewSignal() => new(TaskCreationOptions.RunContinuationsAsynchronously);
}
