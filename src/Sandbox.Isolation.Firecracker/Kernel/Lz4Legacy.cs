using System.Buffers.Binary;

namespace Sandbox.Isolation.Firecracker.Kernel;

/// <summary>
/// The frame of LZ4 that kernel images use: a magic number, then blocks, each a little-endian length and that many bytes, which come to at most 8 MiB. There is no checksum and no end mark.
/// </summary>
internal static class Lz4Legacy
{
    /// <summary>First four bytes, little-endian.</summary>
    public const uint Magic = 0x184C2102;

    /// <summary>Most bytes that one block comes to.</summary>
    private const int MaxBlock = 8 << 20;

    /// <summary>Shortest copy that is encoded at all; lengths count from here.</summary>
    private const int MinMatch = 4;

    /// <summary>Decompresses all blocks.</summary>
    /// <param name="frame">The frame, from its magic number on.</param>
    /// <param name="size">What it comes to, in bytes.</param>
    /// <exception cref="InvalidDataException">The data is damaged, or comes to another size.</exception>
    public static byte[] Decompress(ReadOnlySpan<byte> frame, int size)
    {
        if (frame.Length < 4 || BinaryPrimitives.ReadUInt32LittleEndian(frame) != Magic)
        {
            throw new InvalidDataException("This is no LZ4 frame of the legacy kind.");
        }

        var output = new byte[size];
        var written = 0;
        for (frame = frame[4..]; frame.Length >= 4 && written < size;)
        {
            var length = BinaryPrimitives.ReadUInt32LittleEndian(frame);
            frame = frame[4..];
            if (length == Magic)
            {
                // Frames may follow one another.
                continue;
            }

            if (length > frame.Length)
            {
                throw new InvalidDataException($"An LZ4 block says that it has {length} bytes; {frame.Length} are left.");
            }

            written += DecompressBlock(frame[..(int)length], output.AsSpan(written, Math.Min(MaxBlock, size - written)));
            frame = frame[(int)length..];
        }

        return written == size ? output : throw new InvalidDataException($"The LZ4 data comes to {written} bytes instead of {size}.");
    }

    /// <summary>A block is sequences: some bytes as they are, then a copy of bytes that came before. The last one has no copy.</summary>
    private static int DecompressBlock(ReadOnlySpan<byte> input, Span<byte> output)
    {
        var (at, written) = (0, 0);
        while (at < input.Length)
        {
            var token = input[at++];
            var literals = Length(input, ref at, token >> 4);
            if (literals > input.Length - at || literals > output.Length - written)
            {
                throw Damaged();
            }

            input.Slice(at, literals).CopyTo(output[written..]);
            at += literals;
            written += literals;
            if (at == input.Length)
            {
                return written;
            }

            if (input.Length - at < 2)
            {
                throw Damaged();
            }

            var offset = BinaryPrimitives.ReadUInt16LittleEndian(input[at..]);
            at += 2;
            var match = Length(input, ref at, token & 15) + MinMatch;
            if (offset == 0 || offset > written || match > output.Length - written)
            {
                throw Damaged();
            }

            // The copy may reach into what it writes: a pattern of `offset` bytes again and again.
            for (var done = 0; done < match;)
            {
                var piece = Math.Min(match - done, offset + done);
                output.Slice(written - offset, piece).CopyTo(output[(written + done)..]);
                done += piece;
            }

            written += match;
        }

        return written;
    }

    private static int Length(ReadOnlySpan<byte> input, ref int at, int nibble)
    {
        var length = nibble;
        if (nibble == 15)
        {
            byte more;
            do
            {
                if (at >= input.Length || length > MaxBlock)
                {
                    throw Damaged();
                }

                more = input[at++];
                length += more;
            }
            while (more == 255);
        }

        return length;
    }

    private static InvalidDataException Damaged() => new("The LZ4 data is damaged.");
}
