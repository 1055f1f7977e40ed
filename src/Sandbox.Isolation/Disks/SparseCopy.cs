using Microsoft.Win32.SafeHandles;

namespace Sandbox.Isolation.Disks;

/// <summary>Copies a file and leaves holes where it has only zeros.</summary>
public static class SparseCopy
{
    private const int Block = 4096;

    /// <summary>Returns how many bytes were not zero, in whole blocks.</summary>
    public static long Copy(SafeFileHandle from, SafeFileHandle to, long length)
    {
        var buffer = GC.AllocateUninitializedArray<byte>(1 << 20);
        var written = 0L;
        RandomAccess.SetLength(to, length);
        for (var offset = 0L; offset < length;)
        {
            var read = RandomAccess.Read(from, buffer.AsSpan(0, (int)Math.Min(buffer.Length, length - offset)), offset);
            if (read == 0)
            {
                throw new EndOfStreamException($"A file ended at {offset} of {length} bytes.");
            }

            for (var at = 0; at < read;)
            {
                // Runs of blocks that hold something are written at once.
                var end = at;
                while (end < read && buffer.AsSpan(end, Math.Min(Block, read - end)).ContainsAnyExcept((byte)0))
                {
                    end += Math.Min(Block, read - end);
                }

                if (end > at)
                {
                    RandomAccess.Write(to, buffer.AsSpan(at, end - at), offset + at);
                    written += end - at;
                }

                at = end + Block;
            }

            offset += read;
        }

        return written;
    }
}
