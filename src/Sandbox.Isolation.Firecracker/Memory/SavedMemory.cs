using Microsoft.Win32.SafeHandles;
using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Disks;

namespace Sandbox.Isolation.Firecracker.Memory;

/// <summary>
/// The memory of a machine that was saved into a file, as a difference from its golden snapshot (or from zeros). Of a full snapshot every page is in the file. Of a differential one only the pages that were
/// written since the machine began; the others are as in the memory that it was loaded with, where some may differ from the golden snapshot too.
/// </summary>
internal sealed class SavedMemory(SafeFileHandle saved, bool isFull, MemoryFile? loaded, SafeFileHandle? golden, long length)
{
    private const int Page = MachineBlock.MemoryBlock;
    private const int PagesAtOnce = 256;

    /// <summary>Gives the pages to a sink. Returns how many bytes those have that are not zero.</summary>
    /// <exception cref="IsolationException">The file has another size than the machine's memory.</exception>
    public async Task<long> WriteAsync(IMachineSink sink, CancellationToken cancellationToken)
    {
        if (RandomAccess.GetLength(saved) is var actual && actual != length)
        {
            throw new IsolationException($"Firecracker saved {actual} bytes of memory; the machine has {length}.");
        }

        var replaced = isFull ? [] : loaded?.Replaced ?? [];
        var (next, bytes) = (0, 0L);
        var mine = new byte[PagesAtOnce * Page];
        var theirs = new byte[PagesAtOnce * Page];
        foreach (var (first, count) in Cut(isFull ? [(0, length / Page)] : SparseFile.BlocksOf(saved, length, Page)))
        {
            bytes += await ReplacedBelowAsync(first);
            bytes += await CompareAsync(saved, first, count);
            while (next < replaced.Length && replaced[next] < first + count)
            {
                // Written again since the machine was loaded.
                next++;
            }
        }

        return bytes + await ReplacedBelowAsync(long.MaxValue);

        async ValueTask<long> ReplacedBelowAsync(long index)
        {
            var written = 0L;
            for (; next < replaced.Length && replaced[next] < index; next++)
            {
                written += await CompareAsync(loaded!.File, replaced[next], 1);
            }

            return written;
        }

        async ValueTask<long> CompareAsync(SafeFileHandle file, long first, int count)
        {
            cancellationToken.ThrowIfCancellationRequested();
            SparseFile.ReadFully(file, mine.AsSpan(0, count * Page), first * Page);
            if (golden is not null)
            {
                SparseFile.ReadFully(golden, theirs.AsSpan(0, count * Page), first * Page);
            }

            var written = 0L;
            for (var i = 0; i < count; i++)
            {
                var page = mine.AsMemory(i * Page, Page);
                if (!page.Span.SequenceEqual(theirs.AsSpan(i * Page, Page)))
                {
                    var isZero = !page.Span.ContainsAnyExcept((byte)0);
                    await sink.WriteMemoryAsync(new MachineBlock(first + i, isZero ? default : page), cancellationToken);
                    written += isZero ? 0 : Page;
                }
            }

            return written;
        }
    }

    private static IEnumerable<(long First, int Count)> Cut(IEnumerable<(long First, long Behind)> runs)
    {
        foreach (var (first, behind) in runs)
        {
            for (var at = first; at < behind; at += PagesAtOnce)
            {
                yield return (at, (int)Math.Min(PagesAtOnce, behind - at));
            }
        }
    }
}
