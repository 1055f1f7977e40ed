namespace Sandbox.Wasm.Worker.Volume;

/// <summary>A run of blocks of a file that lie one behind the other on the disk.</summary>
internal readonly record struct Extent(uint Logical, uint Physical, uint Count)
{
    public uint LogicalEnd => Logical + Count;
}

/// <summary>
/// The blocks of a file, in order. A list of runs, so that neither a large file nor a sparse one costs more memory than its fragments: what a session can make this process hold is bounded by
/// the blocks of its disk.
/// </summary>
internal sealed class Extents
{
    private readonly List<Extent> _runs = [];

    public IReadOnlyList<Extent> Runs => _runs;

    public int Count => _runs.Count;

    /// <summary>Blocks in all.</summary>
    public long Blocks { get; private set; }

    /// <summary>
    /// What is at a block: the physical block and how many follow it on the disk; or 0 and how many blocks of hole there are (<see cref="uint.MaxValue"/> minus the block, to the end).
    /// </summary>
    public (uint Physical, uint Count) Find(uint logical)
    {
        var index = IndexAtOrAfter(logical);
        if (index < _runs.Count && _runs[index].Logical <= logical)
        {
            var run = _runs[index];
            var skip = logical - run.Logical;
            return (run.Physical + skip, run.Count - skip);
        }

        return (0, index < _runs.Count ? _runs[index].Logical - logical : uint.MaxValue - logical);
    }

    /// <summary>Adds blocks where there is a hole.</summary>
    public void Add(Extent added)
    {
        Blocks += added.Count;
        var index = IndexAtOrAfter(added.Logical);
        if (index > 0 && _runs[index - 1] is var before && before.LogicalEnd == added.Logical && before.Physical + before.Count == added.Physical)
        {
            _runs[index - 1] = before with { Count = before.Count + added.Count };
            return;
        }

        _runs.Insert(index, added);
    }

    /// <summary>Takes away every block from one on, and names them.</summary>
    public List<Extent> CutFrom(uint logical)
    {
        List<Extent> cut = [];
        for (var index = _runs.Count - 1; index >= 0 && _runs[index].LogicalEnd > logical; index--)
        {
            var run = _runs[index];
            if (run.Logical >= logical)
            {
                cut.Add(run);
                _runs.RemoveAt(index);
            }
            else
            {
                var kept = logical - run.Logical;
                cut.Add(new Extent(logical, run.Physical + kept, run.Count - kept));
                _runs[index] = run with { Count = kept };
            }
        }

        Blocks -= cut.Sum(c => (long)c.Count);
        return cut;
    }

    /// <summary>The first run that ends behind a block.</summary>
    private int IndexAtOrAfter(uint logical)
    {
        var (low, high) = (0, _runs.Count);
        while (low < high)
        {
            var middle = (low + high) / 2;
            if (_runs[middle].LogicalEnd <= logical)
            {
                low = middle + 1;
            }
            else
            {
                high = middle;
            }
        }

        return low;
    }
}
