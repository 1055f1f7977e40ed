using Microsoft.Win32.SafeHandles;
using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Disks;
using Sandbox.Isolation.Qemu.Golden;

namespace Sandbox.Isolation.Qemu.Machine;

/// <summary>
/// The memory of a machine that is saved, as a difference from its golden snapshot: pages of the process's own, and those that the memory it shares with its siblings has in place of the golden ones.
/// </summary>
internal sealed class SavedPages(ProcessMemory memory, SharedMemoryBase? shared)
{
    private const int PagesAtOnce = 256;
    private static readonly byte[] Zeros = new byte[ProcessMemory.Page];

    /// <summary>Pages that may differ. Of a stopped machine they stay the same.</summary>
    public List<PageRun> Find(SafeFileHandle? ownMemory)
    {
        if (shared is not null)
        {
            return memory.OwnPages();
        }

        return [.. SparseFile.BlocksOf(ownMemory!, memory.Size, ProcessMemory.Page).Select(r => new PageRun(r.First, r.Behind - r.First))];
    }

    /// <summary>Copies the pages at the speed of memory.</summary>
    public void SetAside(List<PageRun> runs, SetAside room)
    {
        foreach (var (first, count) in Cut(runs))
        {
            room.Add(count * ProcessMemory.Page, (span, _) => memory.Read(first, span));
        }
    }

    /// <summary>Gives the pages that differ to the sink and returns how many bytes there were. They are read from <paramref name="room"/>, or where they are.</summary>
    public async Task<long> WriteAsync(List<PageRun> runs, SetAside? room, IMachineSink sink, CancellationToken cancellationToken)
    {
        var bytes = 0L;
        var replaced = shared?.Replaced ?? [];
        var next = 0;
        var copy = new byte[ProcessMemory.Page];
        var buffer = room is null ? GC.AllocateUninitializedArray<byte>(PagesAtOnce * ProcessMemory.Page) : [];
        using var pieces = room?.Pieces().GetEnumerator();
        foreach (var (first, count) in Cut(runs))
        {
            ReadOnlyMemory<byte> data;
            if (pieces is null)
            {
                memory.Read(first, buffer.AsSpan(0, count * ProcessMemory.Page));
                data = buffer;
            }
            else
            {
                pieces.MoveNext();
                data = pieces.Current;
            }

            cancellationToken.ThrowIfCancellationRequested();
            for (var i = 0; i < count; i++)
            {
                bytes += await ReplacedBelowAsync(first + i);
                next += next < replaced.Length && replaced[next] == first + i ? 1 : 0;
                var page = data.Slice(i * ProcessMemory.Page, ProcessMemory.Page);
                if (Differs(first + i, page.Span))
                {
                    await sink.WriteMemoryAsync(new MachineBlock(first + i, page), cancellationToken);
                    bytes += page.Length;
                }
            }
        }

        return bytes + await ReplacedBelowAsync(long.MaxValue);

        async ValueTask<long> ReplacedBelowAsync(long index)
        {
            var written = 0L;
            for (; next < replaced.Length && replaced[next] < index; next++)
            {
                shared!.Memory.PageAt(replaced[next]).CopyTo(copy);
                await sink.WriteMemoryAsync(new MachineBlock(replaced[next], copy), cancellationToken);
                written += copy.Length;
            }

            return written;
        }
    }

    private bool Differs(long index, ReadOnlySpan<byte> page) => !page.SequenceEqual(shared is null ? Zeros : shared.Golden.Memory.PageAt(index));

    private static IEnumerable<(long First, int Count)> Cut(List<PageRun> runs)
    {
        foreach (var (first, count) in runs)
        {
            for (var at = 0L; at < count; at += PagesAtOnce)
            {
                yield return (first + at, (int)Math.Min(PagesAtOnce, count - at));
            }
        }
    }
}
