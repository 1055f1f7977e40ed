using System.Buffers.Binary;
using System.Globalization;

namespace Sandbox.Output.Segments;

/// <summary>What a log on disk holds: read whole and checked when the log is opened, its torn tail cut.</summary>
internal sealed class LogRecovery
{
    private readonly OutputLogOptions _options;

    private LogRecovery(OutputLogOptions options) => _options = options;

    public List<Segment> Segments { get; } = [];

    public long LastSeq { get; private set; }

    public long OutputRecords { get; private set; }

    public OutputTotals Totals { get; private set; }

    public bool Complete { get; private set; }

    /// <exception cref="OutputLogCorruptException">Damage that is not a torn tail: records stand behind it, so cutting would lose what readers have seen.</exception>
    public static LogRecovery Run(string directory, OutputLogOptions options, FileCache files)
    {
        var recovery = new LogRecovery(options);
        var paths = Directory.GetFiles(directory, "*" + Segment.Extension);
        Array.Sort(paths, StringComparer.Ordinal);
        for (var i = 0; i < paths.Length; i++)
        {
            recovery.Take(paths[i], isLast: i == paths.Length - 1, files);
        }

        return recovery;
    }

    private void Take(string path, bool isLast, FileCache files)
    {
        long end;
        bool empty;
        using (var lease = files.Rent(path, FileMode.Open))
        {
            var length = RandomAccess.GetLength(lease.Handle);
            Span<byte> head = stackalloc byte[SegmentHeader.Bytes];
            var header = SegmentHeader.Read(head[..RandomAccess.Read(lease.Handle, head, 0)]);
            if (header is null && !isLast)
            {
                throw new OutputLogCorruptException(path, 0, "its header is not one");
            }

            if (header is { } known && (known.FirstSeq != LastSeq + 1 || Path.GetFileName(path) != Segment.NameOf(known.FirstSeq) || Complete))
            {
                throw new OutputLogCorruptException(path, 0, $"it begins with record {known.FirstSeq.ToString(CultureInfo.InvariantCulture)} where {LastSeq + 1} is next");
            }

            // A segment is written together with its first record: one that holds none was torn, and its name is used again.
            var segment = new Segment(path, LastSeq + 1);
            if (header is not null)
            {
                Totals = Totals with { Capped = Totals.Capped || header.Value.Capped };
                Scan(lease, segment, length);
            }

            end = header is null ? 0 : segment.End;
            empty = LastSeq < segment.FirstSeq;
            if (length > end && !isLast)
            {
                throw new OutputLogCorruptException(path, end, "a record is not what was written");
            }

            if (!empty)
            {
                Segments.Add(segment);
                if (length > end)
                {
                    RandomAccess.SetLength(lease.Handle, end);
                }
            }
        }

        if (empty)
        {
            files.Forget(Path.GetDirectoryName(path)!);
            File.Delete(path);
        }
    }

    private void Scan(FileCache.Lease lease, Segment segment, long length)
    {
        using var reader = new SegmentReader(lease.Handle, SegmentHeader.Bytes, length, _options.MaxRecordBytes);
        while (!Complete && reader.TryPeek(out var header, out var record))
        {
            if (!RecordCodec.IsIntact(record) || header.Seq != LastSeq + 1)
            {
                return;
            }

            segment.Added(header.Seq, record.Length);
            LastSeq = header.Seq;
            if (header.IsOutput)
            {
                OutputRecords++;
                Totals = Totals with { KeptBytes = Totals.KeptBytes + header.Length };
            }

            if (header.Flags.HasFlag(RecordFlags.CapNotice))
            {
                Totals = Totals with { Capped = true };
            }

            if (header.Kind == OutputRecordKind.Exit)
            {
                Complete = true;
                Totals = Totals with { DroppedBytes = BinaryPrimitives.ReadInt64LittleEndian(record[(RecordCodec.HeaderBytes + 8)..]) };
            }

            reader.Skip(record.Length);
        }
    }
}
