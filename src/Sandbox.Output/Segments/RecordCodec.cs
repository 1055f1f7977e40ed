using System.Buffers.Binary;

namespace Sandbox.Output.Segments;

/// <summary>
/// How a record stands on disk, little-endian: length of the data (4), CRC-32C of all that follows (4), sequence number (8), time (8), kind (1),
/// flags (1), zero (2), data.
/// </summary>
internal static class RecordCodec
{
    public const int HeaderBytes = 28;
    private const int CheckedFrom = 8;

    public static int SizeOf(int dataLength) => HeaderBytes + dataLength;

    /// <summary>Writes a record; returns its size.</summary>
    public static int Write(Span<byte> to, long seq, OutputRecordKind kind, RecordFlags flags, long unixMilliseconds, ReadOnlySpan<byte> data)
    {
        BinaryPrimitives.WriteInt32LittleEndian(to, data.Length);
        BinaryPrimitives.WriteInt64LittleEndian(to[8..], seq);
        BinaryPrimitives.WriteInt64LittleEndian(to[16..], unixMilliseconds);
        to[24] = (byte)kind;
        to[25] = (byte)flags;
        to[26] = to[27] = 0;
        data.CopyTo(to[HeaderBytes..]);
        BinaryPrimitives.WriteUInt32LittleEndian(to[4..], Crc32C.Of(to[CheckedFrom..SizeOf(data.Length)]));
        return SizeOf(data.Length);
    }

    public static RecordHeader ReadHeader(ReadOnlySpan<byte> from) => new(
        BinaryPrimitives.ReadInt32LittleEndian(from),
        BinaryPrimitives.ReadUInt32LittleEndian(from[4..]),
        BinaryPrimitives.ReadInt64LittleEndian(from[8..]),
        BinaryPrimitives.ReadInt64LittleEndian(from[16..]),
        (OutputRecordKind)from[24],
        (RecordFlags)from[25]);

    /// <summary>Says whether the whole record (header and data) is what was written.</summary>
    public static bool IsIntact(ReadOnlySpan<byte> record) => BinaryPrimitives.ReadUInt32LittleEndian(record[4..]) == Crc32C.Of(record[CheckedFrom..]);
}

/// <summary>A record's header. Nothing in it may be believed before the record's checksum was compared.</summary>
internal readonly record struct RecordHeader(int Length, uint Checksum, long Seq, long UnixMilliseconds, OutputRecordKind Kind, RecordFlags Flags)
{
    /// <summary>It counts against the cap: it is the guest's and not the host's.</summary>
    public bool IsOutput => Kind <= OutputRecordKind.Error;
}

/// <summary>What else there is to know of a record.</summary>
[Flags]
internal enum RecordFlags : byte
{
    None = 0,

    /// <summary>This notice says that the cap was reached.</summary>
    CapNotice = 1,

    /// <summary>Sixteen bytes of totals (kept, dropped) stand before the data.</summary>
    Totals = 2,
}
