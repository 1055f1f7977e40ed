using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace Sandbox.Isolation.Disks;

/// <summary>Where a sparse file has data. Holes are passed over without being read.</summary>
public static partial class SparseFile
{
    private const int SeekData = 3;
    private const int SeekHole = 4;
    private const int NoSuchOffset = 6;

    /// <summary>Stretches of data up to <paramref name="length"/>, ascending: begin and end in bytes. Where the file system knows no holes, one stretch is all of it.</summary>
    public static IEnumerable<(long Begin, long End)> DataOf(SafeFileHandle file, long length)
    {
        for (var at = 0L; at < length;)
        {
            var begin = Seek(file, at, SeekData);
            if (begin < 0)
            {
                if (Marshal.GetLastPInvokeError() != NoSuchOffset)
                {
                    yield return (at, length);
                }

                yield break;
            }

            var end = Seek(file, begin, SeekHole);
            end = end < 0 ? length : Math.Min(end, length);
            if (begin >= length || end <= begin)
            {
                yield break;
            }

            yield return (begin, end);
            at = end;
        }
    }

    /// <summary>The same in whole blocks: first block, and the one behind the last. No block comes twice.</summary>
    public static IEnumerable<(long First, long Behind)> BlocksOf(SafeFileHandle file, long length, int block)
    {
        var done = 0L;
        foreach (var (begin, end) in DataOf(file, length))
        {
            var first = Math.Max(done, begin / block);
            var behind = (end + block - 1) / block;
            if (behind > first)
            {
                yield return (first, behind);
                done = behind;
            }
        }
    }

    /// <summary>Copies the data of a file into one that has the same length and nothing but a hole.</summary>
    public static void CopyData(SafeFileHandle from, SafeFileHandle to, long length)
    {
        var buffer = GC.AllocateUninitializedArray<byte>(1 << 20);
        foreach (var (begin, end) in DataOf(from, length))
        {
            for (var at = begin; at < end; at += buffer.Length)
            {
                var piece = buffer.AsSpan(0, (int)Math.Min(buffer.Length, end - at));
                ReadFully(from, piece, at);
                RandomAccess.Write(to, piece, at);
            }
        }
    }

    /// <summary>Reads exactly, with zeros behind the end of the file.</summary>
    public static void ReadFully(SafeFileHandle file, Span<byte> buffer, long offset)
    {
        while (buffer.Length > 0)
        {
            var read = RandomAccess.Read(file, buffer, offset);
            if (read == 0)
            {
                buffer.Clear();
                return;
            }

            buffer = buffer[read..];
            offset += read;
        }
    }

    [LibraryImport("libc", EntryPoint = "lseek", SetLastError = true)]
    private static partial long Seek(SafeFileHandle file, long offset, int whence);
}
