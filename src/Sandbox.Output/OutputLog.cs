using Sandbox.Output.Segments;

namespace Sandbox.Output;

/// <summary>
/// The output of one execution: records 1, 2, 3 … without a gap, the last of which is its exit. One writer at a time, any number of readers,
/// all at once. Holds no file open of its own.
/// </summary>
public sealed partial class OutputLog
{
    private readonly string _directory;
    private readonly OutputLogOptions _options;
    private readonly FileCache _files;

    /// <summary>What readers may see. Held for moments only.</summary>
    private readonly Lock _gate = new();
    private readonly List<Segment> _segments;
    private TaskCompletionSource _grown = NewSignal();
    private long _lastSeq;
    private OutputTotals _totals;
    private bool _complete;
    private bool _deleted;

    internal OutputLog(string session, string execution, string directory, OutputLogOptions options, FileCache files)
    {
        Session = session;
        Execution = execution;
        _directory = directory;
        _options = options;
        _files = files;
        var recovered = LogRecovery.Run(directory, options, files);
        _segments = recovered.Segments;
        _lastSeq = recovered.LastSeq;
        _totals = recovered.Totals;
        _complete = recovered.Complete;
        _outputRecords = recovered.OutputRecords;
    }

    /// <summary>The session's id.</summary>
    public string Session { get; }

    /// <summary>The execution's id.</summary>
    public string Execution { get; }

    /// <summary>Number of the last record, or 0.</summary>
    public long LastSeq
    {
        get
        {
            lock (_gate)
            {
                return _lastSeq;
            }
        }
    }

    /// <summary>The exit is in the log: there will be no more.</summary>
    public bool IsComplete
    {
        get
        {
            lock (_gate)
            {
                return _complete;
            }
        }
    }

    /// <summary>How much output was kept and dropped so far.</summary>
    public OutputTotals Totals
    {
        get
        {
            lock (_gate)
            {
                return _totals;
            }
        }
    }

    /// <summary>This process has appended to it and its end has not been written: it must not be swept away.</summary>
    internal bool IsBeingWritten
    {
        get
        {
            lock (_gate)
            {
                return _written && !_complete && !_deleted;
            }
        }
    }

    internal bool IsDeleted
    {
        get
        {
            lock (_gate)
            {
                return _deleted;
            }
        }
    }

    private string Name => $"{Session}/{Execution}";

    /// <summary>
    /// Reads a page from record <paramref name="fromSeq"/> on; if it is not there yet, waits for it. Memory is bounded by <paramref name="maxBytes"/>
    /// and one record; a page with anything to return holds at least one record.
    /// </summary>
    /// <param name="fromSeq">First record wanted; 1 for all.</param>
    /// <param name="maxBytes">Most bytes of data and overhead (64 a record) in the page, 1 or more.</param>
    /// <param name="maxRecords">Most records, 1 or more.</param>
    /// <param name="wait">How long to wait for the first record; zero: not at all.</param>
    /// <param name="cancellationToken">Gives up.</param>
    /// <exception cref="OutputLogDeletedException">The log was deleted, before or while waiting.</exception>
    /// <exception cref="OutputLogCorruptException">The bytes on disk were changed.</exception>
    public async ValueTask<OutputPage> ReadAsync(long fromSeq, int maxBytes, int maxRecords, TimeSpan wait, CancellationToken cancellationToken = default)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(fromSeq, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(maxBytes, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(maxRecords, 1);
        cancellationToken.ThrowIfCancellationRequested();
        var clock = _options.TimeProvider;
        var began = clock.GetTimestamp();
        while (true)
        {
            Task grown;
            lock (_gate)
            {
                ThrowIfDeleted();
                if (fromSeq <= _lastSeq || _complete)
                {
                    break;
                }

                grown = _grown.Task;
            }

            var left = wait - clock.GetElapsedTime(began);
            if (left <= TimeSpan.Zero)
            {
                break;
            }

            try
            {
                await grown.WaitAsync(left, clock, cancellationToken).ConfigureAwait(false);
            }
            catch (TimeoutException)
            {
                break;
            }
        }

        return ReadPage(fromSeq, maxBytes, maxRecords);
    }

    internal void MarkDeleted()
    {
        TaskCompletionSource grown;

        // After any append that has begun: it must not make files in a directory that is gone, or is another log's by then.
        lock (_writing)
        {
            lock (_gate)
            {
                _deleted = true;
                grown = _grown;
            }
        }

        grown.TrySetResult();
    }

    private static TaskCompletionSource NewSignal() => new(TaskCreationOptions.RunContinuationsAsynchronously);

    private OutputPage ReadPage(long fromSeq, int maxBytes, int maxRecords)
    {
        // What is seen is fixed here; the writer goes on meanwhile.
        (string Path, long Offset, long End)[] parts;
        long last;
        bool complete;
        OutputTotals totals;
        lock (_gate)
        {
            ThrowIfDeleted();
            (last, complete, totals) = (_lastSeq, _complete, _totals);
            parts = fromSeq > last
                ? []
                : [.. _segments.SkipWhile((s, i) => i + 1 < _segments.Count && _segments[i + 1].FirstSeq <= fromSeq).Select(s => (s.Path, s.OffsetNear(fromSeq), s.End))];
        }

        var page = new PageBuilder(fromSeq, maxBytes, maxRecords);
        foreach (var (path, offset, end) in parts)
        {
            if (!Read(page, path, offset, end))
            {
                break;
            }
        }

        return new OutputPage { Records = page.Records, NextSeq = page.Next, LastSeq = last, Complete = complete && page.Next > last, Totals = totals };
    }

    private bool Read(PageBuilder page, string path, long offset, long end)
    {
        try
        {
            using var lease = _files.Rent(path, FileMode.Open);
            using var reader = new SegmentReader(lease.Handle, offset, end, _options.MaxRecordBytes);
            while (reader.Offset < end)
            {
                if (!reader.TryPeek(out var header, out var record) || !RecordCodec.IsIntact(record))
                {
                    throw new OutputLogCorruptException(path, reader.Offset, "a record is not what was written");
                }

                if (!page.Take(header, record))
                {
                    return false;
                }

                reader.Skip(record.Length);
            }

            return true;
        }
        catch (Exception e) when (e is FileNotFoundException or DirectoryNotFoundException)
        {
            throw new OutputLogDeletedException(Name);
        }
    }

    private void ThrowIfDeleted()
    {
        if (_deleted)
        {
            throw new OutputLogDeletedException(Name);
        }
    }

    private sealed class PageBuilder(long fromSeq, int maxBytes, int maxRecords)
    {
        private const int Overhead = 64;
        private const int TotalsBytes = 16;
        private long _bytes;

        public List<OutputRecord> Records { get; } = [];

        public long Next { get; private set; } = fromSeq;

        /// <summary>Returns false where the page is full.</summary>
        public bool Take(RecordHeader header, ReadOnlySpan<byte> record)
        {
            if (header.Seq < Next)
            {
                return true;
            }

            _bytes += header.Length + Overhead;
            if (Records.Count > 0 && (_bytes > maxBytes || Records.Count == maxRecords))
            {
                return false;
            }

            var data = record[RecordCodec.HeaderBytes..];
            data = header.Flags.HasFlag(RecordFlags.Totals) ? data[TotalsBytes..] : data;
            Records.Add(new OutputRecord(header.Seq, header.Kind, header.UnixMilliseconds, data.ToArray()));
            Next = header.Seq + 1;
            return true;
        }
    }
}
