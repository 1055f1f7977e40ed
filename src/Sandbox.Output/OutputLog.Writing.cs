using System.Buffers;
using System.Buffers.Binary;
using System.Text;
using Sandbox.Output.Segments;

namespace Sandbox.Output;

// The writing side. One append at a time; what it appends becomes visible to readers in one step, after it is as safe as promised.
public sealed partial class OutputLog
{
    private readonly Lock _writing = new();
    private long _outputRecords;
    private bool _written;
    private bool _tailIsDirty;

    /// <summary>
    /// Appends entries and returns them as they stand in the log, with their numbers: output beyond the cap is missing or shortened, and the
    /// notice that says so is among them. When this returns they are as safe as <see cref="OutputLogOptions.Durability"/> says. If it throws, none of them is in the log.
    /// </summary>
    /// <exception cref="InvalidOperationException">The log is complete.</exception>
    /// <exception cref="ArgumentException">An entry of no known kind, over the limit, or after the exit.</exception>
    /// <exception cref="IOException">The disk is full or failing; the log is as it was.</exception>
    /// <exception cref="OutputLogDeletedException">The log was deleted.</exception>
    public IReadOnlyList<OutputRecord> Append(IReadOnlyList<OutputEntry> entries)
    {
        ArgumentNullException.ThrowIfNull(entries);
        Check(entries);
        lock (_writing)
        {
            return AppendChecked(entries);
        }
    }

    /// <summary>As <see cref="Append"/>; waits for the disk elsewhere where the durability demands a wait.</summary>
    public ValueTask<IReadOnlyList<OutputRecord>> AppendAsync(IReadOnlyList<OutputEntry> entries, CancellationToken cancellationToken = default)
    {
        cancellationToken.ThrowIfCancellationRequested();
        return _options.Durability == OutputDurability.ProcessDeath
            ? ValueTask.FromResult(Append(entries))
            : new ValueTask<IReadOnlyList<OutputRecord>>(Task.Run(() => Append(entries), CancellationToken.None));
    }

    /// <summary>Appends the exit, made from the final totals, and completes the log.</summary>
    /// <exception cref="InvalidOperationException">The log is complete already.</exception>
    /// <exception cref="IOException">The disk is full or failing; the log is as it was.</exception>
    public OutputRecord Complete(Func<OutputTotals, ReadOnlyMemory<byte>> exit, long unixMilliseconds = 0)
    {
        ArgumentNullException.ThrowIfNull(exit);
        lock (_writing)
        {
            // No append can come in between: the totals are final.
            OutputEntry[] entries = [new OutputEntry(OutputRecordKind.Exit, exit(Totals), unixMilliseconds)];
            Check(entries);
            return AppendChecked(entries)[^1];
        }
    }

    private void Check(IReadOnlyList<OutputEntry> entries)
    {
        for (var i = 0; i < entries.Count; i++)
        {
            if (!Enum.IsDefined(entries[i].Kind) || entries[i].Data.Length > _options.MaxRecordBytes)
            {
                throw new ArgumentException($"Entry {i} is of kind {(int)entries[i].Kind} and {entries[i].Data.Length} bytes; allowed are {_options.MaxRecordBytes}.", nameof(entries));
            }

            if (entries[i].Kind == OutputRecordKind.Exit && i != entries.Count - 1)
            {
                throw new ArgumentException("The exit is the last entry of a log.", nameof(entries));
            }
        }
    }

    private IReadOnlyList<OutputRecord> AppendChecked(IReadOnlyList<OutputEntry> entries)
    {
        lock (_gate)
        {
            ThrowIfDeleted();
            if (_complete)
            {
                throw new InvalidOperationException($"Output log {Name} is complete: its exit has been written.");
            }

            _written = true;
        }

        var plan = new AppendPlan(_lastSeq, _totals, _outputRecords, _options);
        foreach (var entry in entries)
        {
            plan.Add(entry);
        }

        var segment = plan.Records.Count == 0 ? null : Write(plan);
        TaskCompletionSource grown;
        lock (_gate)
        {
            _totals = plan.Totals;
            _outputRecords = plan.OutputRecords;
            if (segment is null)
            {
                return [];
            }

            if (_segments.Count == 0 || !ReferenceEquals(_segments[^1], segment))
            {
                _segments.Add(segment);
            }

            foreach (var (record, flags) in plan.Records)
            {
                segment.Added(record.Seq, AppendPlan.SizeOf(record, flags));
                _complete |= record.Kind == OutputRecordKind.Exit;
            }

            _lastSeq = plan.Records[^1].Record.Seq;
            grown = _grown;
            _grown = NewSignal();
        }

        grown.TrySetResult();
        return [.. plan.Records.Select(r => r.Record)];
    }

    /// <summary>Writes the planned records, where they belong; nothing is visible yet.</summary>
    private Segment Write(AppendPlan plan)
    {
        var size = plan.Records.Sum(r => (long)AppendPlan.SizeOf(r.Record, r.Flags));
        var last = _segments.Count == 0 ? null : _segments[^1];
        var begins = last is null || last.End + size > _options.SegmentBytes;
        var segment = begins ? new Segment(Path.Combine(_directory, Segment.NameOf(plan.Records[0].Record.Seq)), plan.Records[0].Record.Seq) : last!;
        var at = begins ? 0 : segment.End;
        var total = checked((int)(size + (begins ? SegmentHeader.Bytes : 0)));
        var buffer = ArrayPool<byte>.Shared.Rent(total);
        try
        {
            var used = 0;
            if (begins)
            {
                new SegmentHeader(segment.FirstSeq, _totals.KeptBytes, _outputRecords, _totals.Capped).Write(buffer);
                used = SegmentHeader.Bytes;
            }

            foreach (var (record, flags) in plan.Records)
            {
                used += plan.Encode(buffer.AsSpan(used), record, flags);
            }

            using var file = _files.Rent(segment.Path, FileMode.OpenOrCreate);
            if (_tailIsDirty)
            {
                // What a failed append left behind could be taken for records after a crash.
                RandomAccess.SetLength(file.Handle, at);
            }

            _tailIsDirty = true;
            RandomAccess.Write(file.Handle, buffer.AsSpan(0, total), at);
            if (_options.Durability == OutputDurability.PowerLoss)
            {
                RandomAccess.FlushToDisk(file.Handle);
                if (begins)
                {
                    DirectorySync.Flush(_directory);
                }
            }

            _tailIsDirty = false;
            return segment;
        }
        catch (DirectoryNotFoundException)
        {
            throw new OutputLogDeletedException(Name);
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(buffer);
        }
    }

    /// <summary>What an append will write: the cap applied, numbers given.</summary>
    private sealed class AppendPlan(long lastSeq, OutputTotals totals, long outputRecords, OutputLogOptions options)
    {
        private const int TotalsBytes = 16;
        private long _seq = lastSeq;

        public List<(OutputRecord Record, RecordFlags Flags)> Records { get; } = [];

        public OutputTotals Totals { get; private set; } = totals;

        public long OutputRecords { get; private set; } = outputRecords;

        public void Add(OutputEntry entry)
        {
            var time = entry.UnixMilliseconds != 0 ? entry.UnixMilliseconds : options.TimeProvider.GetUtcNow().ToUnixTimeMilliseconds();
            if (entry.Kind > OutputRecordKind.Error)
            {
                Put(entry.Kind, time, entry.Data, entry.Kind == OutputRecordKind.Exit ? RecordFlags.Totals : RecordFlags.None);
                return;
            }

            var room = Totals.Capped || OutputRecords >= options.MaxOutputRecords ? 0 : options.MaxOutputBytes - Totals.KeptBytes;
            var fits = entry.Data.Length <= room && !Totals.Capped && OutputRecords < options.MaxOutputRecords;

            // A stream may be cut anywhere; half a result is none.
            var kept = fits ? entry.Data.Length : entry.Kind <= OutputRecordKind.Pty ? (int)Math.Max(0, room) : 0;
            if (fits || kept > 0)
            {
                Put(entry.Kind, time, entry.Data[..kept], RecordFlags.None);
                OutputRecords++;
                Totals = Totals with { KeptBytes = Totals.KeptBytes + kept };
            }

            if (!fits)
            {
                if (!Totals.Capped)
                {
                    var text = $"Output is capped at {options.MaxOutputBytes} bytes ({options.MaxOutputRecords} records): the execution goes on, what else it says is counted and dropped.";
                    Put(OutputRecordKind.Notice, time, Encoding.UTF8.GetBytes(text), RecordFlags.CapNotice);
                }

                Totals = Totals with { Capped = true, DroppedBytes = Totals.DroppedBytes + entry.Data.Length - kept };
            }
        }

        public static int SizeOf(OutputRecord record, RecordFlags flags) =>
            RecordCodec.SizeOf(record.Data.Length + (flags.HasFlag(RecordFlags.Totals) ? TotalsBytes : 0));

        public int Encode(Span<byte> to, OutputRecord record, RecordFlags flags)
        {
            if (!flags.HasFlag(RecordFlags.Totals))
            {
                return RecordCodec.Write(to, record.Seq, record.Kind, flags, record.UnixMilliseconds, record.Data.Span);
            }

            var data = new byte[TotalsBytes + record.Data.Length];
            BinaryPrimitives.WriteInt64LittleEndian(data, Totals.KeptBytes);
            BinaryPrimitives.WriteInt64LittleEndian(data.AsSpan(8), Totals.DroppedBytes);
            record.Data.Span.CopyTo(data.AsSpan(TotalsBytes));
            return RecordCodec.Write(to, record.Seq, record.Kind, flags, record.UnixMilliseconds, data);
        }

        private void Put(OutputRecordKind kind, long time, ReadOnlyMemory<byte> data, RecordFlags flags) =>
            Records.Add((new OutputRecord(++_seq, kind, time, data), flags));
    }
}
