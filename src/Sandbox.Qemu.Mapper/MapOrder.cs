using System.Runtime.InteropServices;
using System.Text;

namespace Sandbox.Qemu.Mapper;

/// <summary>Mappings that a process is to make, one after the other. The answer is empty, or says what went wrong; those before the one that failed are made.</summary>
/// <param name="Pid">The process.</param>
/// <param name="Descriptor">The file, by its number in that process.</param>
/// <param name="Pieces">What is mapped where.</param>
internal sealed record MapOrder(int Pid, int Descriptor, IReadOnlyList<MapPiece> Pieces)
{
    /// <summary>More than a process can have mappings (vm.max_map_count is 65,530 unless somebody raised it).</summary>
    private const int MostPieces = 1 << 20;

    private const int MostAnswer = 1 << 16;

    /// <summary>Pid, descriptor and number of pieces, then the pieces; both ends are processes of one machine.</summary>
    public byte[] Encode() => [.. MemoryMarshal.AsBytes<int>([Pid, Descriptor, Pieces.Count]), .. MemoryMarshal.AsBytes<MapPiece>([.. Pieces])];

    /// <summary>Reads one; <see langword="null"/> where there is none any more.</summary>
    /// <exception cref="InvalidDataException">It is no order.</exception>
    /// <exception cref="EndOfStreamException">It ends in the middle.</exception>
    public static MapOrder? Read(Stream stream)
    {
        var head = new int[3];
        var bytes = MemoryMarshal.AsBytes(head.AsSpan());
        if (stream.ReadAtLeast(bytes, bytes.Length, throwOnEndOfStream: false) < bytes.Length)
        {
            return null;
        }

        if (head[2] is < 0 or > MostPieces)
        {
            throw new InvalidDataException($"{head[2]} pieces");
        }

        var pieces = new MapPiece[head[2]];
        stream.ReadExactly(MemoryMarshal.AsBytes(pieces.AsSpan()));
        return new MapOrder(head[0], head[1], pieces);
    }

    /// <summary>Writes the answer.</summary>
    public static void Answer(Stream stream, string problem)
    {
        var text = Encoding.UTF8.GetBytes(problem);
        stream.Write([.. BitConverter.GetBytes(text.Length), .. text]);
        stream.Flush();
    }

    /// <summary>Reads the answer: empty when all is done.</summary>
    /// <exception cref="InvalidDataException">It is no answer.</exception>
    /// <exception cref="EndOfStreamException">It ends in the middle.</exception>
    public static async Task<string> ReadAnswerAsync(Stream stream, CancellationToken cancellationToken)
    {
        var head = new byte[sizeof(int)];
        await stream.ReadExactlyAsync(head, cancellationToken);
        var length = BitConverter.ToInt32(head);
        if (length is < 0 or > MostAnswer)
        {
            throw new InvalidDataException($"An answer of {length} bytes.");
        }

        var text = new byte[length];
        await stream.ReadExactlyAsync(text, cancellationToken);
        return Encoding.UTF8.GetString(text);
    }
}

/// <summary>A private mapping, in bytes; all three are whole pages.</summary>
/// <param name="Address">Where in the process; what was mapped there is replaced.</param>
/// <param name="Length">How much.</param>
/// <param name="Offset">From where in the file.</param>
[StructLayout(LayoutKind.Sequential)]
internal readonly record struct MapPiece(long Address, long Length, long Offset);
