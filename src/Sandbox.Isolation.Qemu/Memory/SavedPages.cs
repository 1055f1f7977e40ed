using Microsoft.Win32.SafeHandles;
using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Disks;

namespace Sandbox.Isolation.Qemu.Memory;

/// <summary>
/// The memory of a machine that is saved, as a difference from its golden snapshot: pages of the process's own, and those of the layer that it shares with others.
/// </summary>
internal sealed class SavedPages(ProcessMemory memory, SharedMemoryBase? shared)
{
    private const int PagesAtOnce = 256;
    private static readonly byte[] Zeros = new byte[ProcessMemory.Page];
    private readonly IReadOnlyList<long> _layer = shared?.Layer?.Pages ?? [];

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

    /// <summary>Copies the pages, and those of the machine's layer that it has not replaced, into a layer.</summary>
    public void SetAside(List<PageRun> runs, LayerWriter room)
    {
        var next = 0;
        foreach (var (first, count) in Cut(runs))
        {
            AddLayerBelow(first);
            memory.Read(first, room.Add(new PageRun(first, count)));
            while (next < _layer.Count && _layer[next] < first + count)
            {
                next++;
            }
        }

        AddLayerBelow(long.MaxValue);

        void AddLayerBelow(long index)
        {
            for (; next < _layer.Count && _layer[next] < index; next++)
            {
                shared!.Layer!.At(next).CopyTo(room.Add(new PageRun(_layer[next], 1)));
            }
        }
    }

    /// <summary>Gives the pages of a layer that differ to the sink and returns how many bytes there were.</summary>
    public async Task<long> WriteAsync(MemoryLayer layer, IMachineSink sink, CancellationToken cancellationToken)
    {
        var bytes = 0L;
        var copy = new byte[ProcessMemory.Page];
        for (var i = 0; i < layer.Pages.Count; i++)
        {
            cancellationToken.ThrowIfCancellationRequested();
            layer.At(i).CopyTo(copy);
            bytes += await WriteAsync(layer.Pages[i], copy, sink, cancellationToken);
        }

        return bytes;
    }

    /// <summary>Gives the pages that differ to the sink and returns how many bytes there were. They are read from <paramref name="room"/>, or where they are.</summary>
    public async Task<long> WriteAsync(List<PageRun> runs, SetAside? room, IMachineSink sink, CancellationToken cancellationToken)
    {
        var bytes = 0L;
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
                bytes += await LayerBelowAsync(first + i);
                next += next < _layer.Count && _layer[next] == first + i ? 1 : 0;
                bytes += await WriteAsync(first + i, data.Slice(i * ProcessMemory.Page, ProcessMemory.Page), sink, cancellationToken);
            }
        }

        return bytes + await LayerBelowAsync(long.MaxValue);

        async ValueTask<long> LayerBelowAsync(long index)
        {
            var written = 0L;
            for (; next < _layer.Count && _layer[next] < index; next++)
            {
                shared!.Layer!.At(next).CopyTo(copy);
                written += await WriteAsync(_layer[next], copy, sink, cancellationToken);
            }

            return written;
        }
    }

    private async ValueTask<int> WriteAsync(long index, ReadOnlyMemory<byte> page, IMachineSink sink, CancellationToken cancellationToken)
    {
        if (!Differs(index, page.Span))
        {
            return 0;
        }

        await sink.WriteMemoryAsync(new MachineBlock(index, page), cancellationToken);
        return page.Length;
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
