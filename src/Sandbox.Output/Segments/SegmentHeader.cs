using System.Buffers.Binary;

namespace Sandbox.Output.Segments;

/// <summary>
/// First bytes of a segment: magic (8), number of its first record (8), output bytes (8) and output records (8) in all segments before it,
/// capped (4), CRC-32C of these (4). Written together with the first record.
/// </summary>
internal readonly record struct SegmentHeader(long FirstSeq, long BytesBefore, long RecordsBefore, bool Capped)
{
    public const int Bytes = 40;

    private static ReadOnlySpan<byte> Magic => "SBXOUT\u0001\n"u8;

    public void Write(Span<byte> to)
    {
        Magic.CopyTo(to);
        BinaryPrimitives.WriteInt64LittleEndian(to[8..], FirstSeq);
        BinaryPrimitives.WriteInt64LittleEndian(to[16..], BytesBefore);
        BinaryPrimitives.WriteInt64LittleEndian(to[24..], RecordsBefore);
        BinaryPrimitives.WriteInt32LittleEndian(to[32..], Capped ? 1 : 0);
        BinaryPrimitives.WriteUInt32LittleEndian(to[36..], Crc32C.Of(to[..36]));
    }

    public static SegmentHeader? Read(ReadOnlySpan<byte> from)
    {
        if (from.Length < Bytes || !from[..8].SequenceEqual(Magic) || BinaryPrimitives.ReadUInt32LittleEndian(from[36..]) != Crc32C.Of(from[..36]))
        {
            return null;
        }

        return new SegmentHeader(
            BinaryPrimitives.ReadInt64LittleEndian(from[8..]),
            BinaryPrimitives.ReadInt64LittleEndian(from[16..]),
            BinaryPrimitives.ReadInt64LittleEndian(from[24..]),
            BinaryPrimitives.ReadInt32LittleEndian(from[32..]) != 0);
    }
}
