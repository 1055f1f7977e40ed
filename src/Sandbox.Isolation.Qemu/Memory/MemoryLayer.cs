using Sandbox.Isolation.Backends;

namespace Sandbox.Isolation.Qemu.Memory;

/// <summary>Pages that take the place of golden ones in the machines that map them: a saved machine's difference from its golden snapshot, once for all that have it. In a sealed file, one page after the other.</summary>
internal sealed class MemoryLayer : IDisposable
{
    private readonly SealedMemory _memory;
    private readonly long[] _pages;

    internal MemoryLayer(SealedMemory memory, long[] pages) => (_memory, _pages) = (memory, pages);

    /// <summary>Their numbers in the guest's memory, ascending.</summary>
    public IReadOnlyList<long> Pages => _pages;

    /// <summary>What holds them.</summary>
    public SealedMemory Memory => _memory;

    /// <summary>The page that is the <paramref name="position"/>th of <see cref="Pages"/>. Not to be kept beyond the life of this.</summary>
    public ReadOnlySpan<byte> At(int position) => _memory.PageAt(position);

    /// <summary>Neighbouring pages, and where in the file the first of them is, counted in pages.</summary>
    public IEnumerable<(PageRun Run, int Position)> Runs()
    {
        for (var begin = 0; begin < _pages.Length;)
        {
            var end = begin + 1;
            while (end < _pages.Length && _pages[end] == _pages[end - 1] + 1)
            {
                end++;
            }

            yield return (new PageRun(_pages[begin], end - begin), begin);
            begin = end;
        }
    }

    public void Dispose() => _memory.Dispose();
}

/// <summary>A layer that is still being made.</summary>
internal sealed class LayerWriter : IDisposable
{
    /// <summary>The kernel takes 249 bytes; a name of its own lets the descriptor be found in a process that was given it.</summary>
    private readonly UnsealedMemory _memory = new($"sandbox-layer-{Guid.NewGuid():N}");
    private readonly List<long> _pages = [];
    private long _room;

    /// <summary>Finds memory for so many pages more, so that none has to be found while they are added.</summary>
    public void Reserve(long pages) => _memory.Reserve((_room = Math.Max(_room, _pages.Count + pages)) * MachineBlock.MemoryBlock);

    /// <summary>Room for pages behind those that are there already; the caller fills it.</summary>
    public Span<byte> Add(PageRun run)
    {
        if (_pages.Count + run.Count > _room)
        {
            Reserve(Math.Max(run.Count, _room / 2));
        }

        var at = (long)_pages.Count * MachineBlock.MemoryBlock;
        for (var i = 0; i < run.Count; i++)
        {
            _pages.Add(run.First + i);
        }

        return _memory.Span(at, (int)(run.Count * MachineBlock.MemoryBlock));
    }

    /// <summary>Ends it. To be disposed all the same.</summary>
    public MemoryLayer Seal() => new(_memory.Seal((long)_pages.Count * MachineBlock.MemoryBlock), [.. _pages]);

    public void Dispose() => _memory.Dispose();
}
