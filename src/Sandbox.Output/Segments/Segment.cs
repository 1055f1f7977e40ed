using System.Globalization;

namespace Sandbox.Output.Segments;

/// <summary>One file of a log, and a sparse index into it. Guarded by the log's lock.</summary>
internal sealed class Segment(string path, long firstSeq)
{
    /// <summary>Bytes between two entries of the index: what a reader skips at most.</summary>
    private const int IndexEveryBytes = 64 * 1024;

    private readonly List<(long Seq, long Offset)> _index = [];

    public const string Extension = ".seg";

    public string Path => path;

    public long FirstSeq => firstSeq;

    /// <summary>End of the last whole record.</summary>
    public long End { get; private set; } = SegmentHeader.Bytes;

    public static string NameOf(long firstSeq) => firstSeq.ToString("D16", CultureInfo.InvariantCulture) + Extension;

    /// <summary>Takes note of a record that stands at <see cref="End"/>.</summary>
    public void Added(long seq, int size)
    {
        if (_index.Count == 0 || End - _index[^1].Offset >= IndexEveryBytes)
        {
            _index.Add((seq, End));
        }

        End += size;
    }

    /// <summary>The nearest known record at or before <paramref name="seq"/>.</summary>
    public long OffsetNear(long seq)
    {
        int low = 0, high = _index.Count - 1, best = 0;
        while (low <= high)
        {
            var middle = (low + high) / 2;
            if (_index[middle].Seq <= seq)
            {
                best = middle;
                low = middle + 1;
            }
            else
            {
                high = middle - 1;
            }
        }

        return _index.Count == 0 ? SegmentHeader.Bytes : _index[best].Offset;
    }
}
