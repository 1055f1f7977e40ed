using Sandbox.Isolation.Backends;
using ZstdSharp;

namespace Sandbox.Bench.Machines;

/// <summary>What the changed bytes of a saved machine take when they are compressed plainly: zstd level 1, in regions of 128 KiB, nothing deduplicated, no zeros left out, no manifest.</summary>
internal static class PlainCompression
{
    private const int Region = 128 * 1024;

    /// <summary>Reads a whole machine.</summary>
    public static async Task<(long Bytes, long Compressed)> OfAsync(IMachineSource source, CancellationToken cancellationToken)
    {
        using var compressor = new Compressor(1);
        var region = new byte[Region];
        var (filled, bytes, compressed) = (0, 0L, 0L);

        void Flush()
        {
            compressed += filled > 0 ? compressor.Wrap(region.AsSpan(0, filled)).Length : 0;
            filled = 0;
        }

        void Add(MachineBlock block, int blockBytes)
        {
            var length = block.Data.IsEmpty ? blockBytes : block.Data.Length;
            if (filled + length > Region)
            {
                Flush();
            }

            var to = region.AsSpan(filled, length);
            to.Clear();
            block.Data.Span.CopyTo(to);
            (filled, bytes) = (filled + length, bytes + length);
        }

        await foreach (var block in source.ReadMemoryAsync(cancellationToken))
        {
            Add(block, MachineBlock.MemoryBlock);
        }

        Flush();
        await foreach (var block in source.ReadDiskAsync(cancellationToken))
        {
            Add(block, MachineBlock.DiskBlock);
        }

        Flush();
        return (bytes, compressed);
    }
}
