using System.Buffers;
using Microsoft.Win32.SafeHandles;

namespace Sandbox.Output.Segments;

/// <summary>Reads records one after the other through one bounded buffer.</summary>
internal sealed class SegmentReader(SafeFileHandle file, long offset, long end, int maxRecordBytes) : IDisposable
{
    private byte[] _buffer = ArrayPool<byte>.Shared.Rent(64 * 1024);
    private int _from;
    private int _count;
    private long _fileAt = offset;

    /// <summary>Where the next record begins.</summary>
    public long Offset { get; private set; } = offset;

    /// <summary>Looks at the next record without taking it; false where no whole and possible one stands before the end.</summary>
    public bool TryPeek(out RecordHeader header, out ReadOnlySpan<byte> record)
    {
        record = default;
        header = default;
        if (!Ensure(RecordCodec.HeaderBytes))
        {
            return false;
        }

        header = RecordCodec.ReadHeader(_buffer.AsSpan(_from));

        // Sixteen more than a caller's data: an exit's totals stand before it.
        if (header.Length < 0 || header.Length > maxRecordBytes + 16 || !Ensure(RecordCodec.SizeOf(header.Length)))
        {
            return false;
        }

        record = _buffer.AsSpan(_from, RecordCodec.SizeOf(header.Length));
        return true;
    }

    /// <summary>Goes past the record last looked at.</summary>
    public void Skip(int size)
    {
        _from += size;
        _count -= size;
        Offset += size;
    }

    public void Dispose()
    {
        ArrayPool<byte>.Shared.Return(_buffer);
        _buffer = [];
    }

    private bool Ensure(int bytes)
    {
        if (_count >= bytes)
        {
            return true;
        }

        if (Offset + bytes > end)
        {
            return false;
        }

        if (_buffer.Length < bytes)
        {
            var larger = ArrayPool<byte>.Shared.Rent(bytes);
            _buffer.AsSpan(_from, _count).CopyTo(larger);
            ArrayPool<byte>.Shared.Return(_buffer);
            _buffer = larger;
        }
        else
        {
            _buffer.AsSpan(_from, _count).CopyTo(_buffer);
        }

        _from = 0;
        while (_count < bytes)
        {
            var room = (int)Math.Min(_buffer.Length - _count, end - _fileAt);
            var got = RandomAccess.Read(file, _buffer.AsSpan(_count, room), _fileAt);
            if (got == 0)
            {
                return false;
            }

            _count += got;
            _fileAt += got;
        }

        return true;
    }
}
