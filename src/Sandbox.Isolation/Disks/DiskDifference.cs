using Microsoft.Win32.SafeHandles;
using Sandbox.Isolation.Backends;

namespace Sandbox.Isolation.Disks;

/// <summary>What a machine's disk has that the golden one has not. Stretches that are holes in both are not read.</summary>
public static class DiskDifference
{
    private const int Block = MachineBlock.DiskBlock;

    /// <summary>Blocks that differ, ascending; the data of one is overwritten by the next.</summary>
    /// <param name="disk">The disk.</param>
    /// <param name="golden">What it began as, or <see langword="null"/> for an empty one.</param>
    /// <param name="length">Length of both, in bytes.</param>
    public static IEnumerable<MachineBlock> Of(SafeFileHandle disk, SafeFileHandle? golden, long length)
    {
        var mine = new byte[Block];
        var theirs = new byte[Block];
        var before = golden is null ? [] : SparseFile.BlocksOf(golden, length, Block);
        foreach (var index in Union(SparseFile.BlocksOf(disk, length, Block), before))
        {
            var size = (int)Math.Min(Block, length - (index * Block));
            SparseFile.ReadFully(disk, mine.AsSpan(0, size), index * Block);
            if (golden is not null)
            {
                SparseFile.ReadFully(golden, theirs.AsSpan(0, size), index * Block);
            }

            if (!mine.AsSpan(0, size).SequenceEqual(theirs.AsSpan(0, size)))
            {
                yield return new MachineBlock(index, mine.AsSpan(0, size).ContainsAnyExcept((byte)0) ? mine.AsMemory(0, size) : default);
            }
        }
    }

    private static IEnumerable<long> Union(IEnumerable<(long First, long Behind)> a, IEnumerable<(long First, long Behind)> b)
    {
        using var first = Each(a).GetEnumerator();
        using var second = Each(b).GetEnumerator();
        var (hasFirst, hasSecond) = (first.MoveNext(), second.MoveNext());
        while (hasFirst || hasSecond)
        {
            var next = Math.Min(hasFirst ? first.Current : long.MaxValue, hasSecond ? second.Current : long.MaxValue);
            yield return next;
            hasFirst = hasFirst && (first.Current != next || first.MoveNext());
            hasSecond = hasSecond && (second.Current != next || second.MoveNext());
        }
    }

    private static IEnumerable<long> Each(IEnumerable<(long First, long Behind)> ranges)
    {
        foreach (var (begin, behind) in ranges)
        {
            for (var index = begin; index < behind; index++)
            {
                yield return index;
            }
        }
    }
}
