using System.Buffers.Binary;
using System.Numerics;
using System.Security.Cryptography;
using Microsoft.Win32.SafeHandles;
using Sandbox.Wasm.Worker.Platform;

namespace Sandbox.Wasm.Worker.Volume;

/// <summary>
/// The disk's file as numbered blocks. Blocks 0 and 1 are two headers that are written in turn: each names a chain of blocks with the file system's structure and its hash. So a commit is one
/// write of one header, and a crash at any moment leaves the structure before it or the one after. Freed blocks are used again only behind the commit that no longer needs them.
/// </summary>
internal sealed class BlockStore : IDisposable
{
    public const int BlockSize = 4096;

    /// <summary>Payload of a block in the chain: the rest is the next one's number.</summary>
    private const int ChainBytes = BlockSize - sizeof(uint);

    private const uint FirstBlock = 2;

    private readonly SafeFileHandle _file;
    private readonly ulong[] _used;
    private readonly List<Extent> _freed = [];
    private List<uint> _chain = [];
    private ulong _generation;
    private uint _hint = FirstBlock;

    public BlockStore(SafeFileHandle file, long bytes)
    {
        (_file, Total) = (file, (uint)Math.Min(bytes / BlockSize, uint.MaxValue));
        _used = new ulong[(Total + 63) / 64];
        Mark(0, FirstBlock);
    }

    private static ReadOnlySpan<byte> Magic => "SBXWASM1"u8;

    /// <summary>Blocks of the disk.</summary>
    public uint Total { get; }

    /// <summary>Blocks in use, with those that become free at the next commit.</summary>
    public long Used { get; private set; }

    /// <summary>Blocks that a commit would free.</summary>
    public long Freed { get; private set; }

    public void Dispose() => _file.Dispose();

    /// <summary>The structure as last committed; <see langword="null"/> for a disk that is new.</summary>
    /// <exception cref="InvalidDataException">There was one, and it is damaged.</exception>
    public byte[]? Load()
    {
        var headers = new List<(ulong Generation, uint First, int Length, byte[] Hash)>();
        var header = new byte[BlockSize];
        var blank = true;
        for (var slot = 0; slot < 2; slot++)
        {
            ReadFully(header, (long)slot * BlockSize);
            blank &= !header.AsSpan().ContainsAnyExcept((byte)0);
            if (header.AsSpan(0, 8).SequenceEqual(Magic) && SHA256.HashData(header.AsSpan(0, 64)).AsSpan().SequenceEqual(header.AsSpan(64, 32)))
            {
                headers.Add((
                    BinaryPrimitives.ReadUInt64LittleEndian(header.AsSpan(8)), BinaryPrimitives.ReadUInt32LittleEndian(header.AsSpan(16)),
                    BinaryPrimitives.ReadInt32LittleEndian(header.AsSpan(20)), header[24..56]));
            }
        }

        if (headers.Count == 0)
        {
            return blank ? null : throw new InvalidDataException("the disk has no valid header");
        }

        var newest = headers.MaxBy(h => h.Generation);
        _generation = newest.Generation;
        var structure = ReadChain(newest.First, newest.Length);
        return SHA256.HashData(structure).AsSpan().SequenceEqual(newest.Hash) ? structure : throw new InvalidDataException("the disk's structure is not what its header says");
    }

    /// <summary>Makes a structure the disk's, and frees what only the one before it used.</summary>
    public void Commit(ReadOnlySpan<byte> structure, bool flush)
    {
        var count = (structure.Length + ChainBytes - 1) / ChainBytes;
        var chain = new List<uint>(count);
        try
        {
            while (chain.Count < count)
            {
                var run = Allocate((uint)(count - chain.Count));
                for (var i = 0u; i < run.Count; i++)
                {
                    chain.Add(run.Physical + i);
                }
            }
        }
        catch (VolumeException)
        {
            foreach (var block in chain)
            {
                Clear(block, 1);
            }

            throw;
        }

        var buffer = new byte[BlockSize];
        for (var i = 0; i < count; i++)
        {
            var part = structure.Slice(i * ChainBytes, Math.Min(ChainBytes, structure.Length - (i * ChainBytes)));
            buffer.AsSpan().Clear();
            BinaryPrimitives.WriteUInt32LittleEndian(buffer, i + 1 < count ? chain[i + 1] : 0);
            part.CopyTo(buffer.AsSpan(sizeof(uint)));
            Write(buffer, (long)chain[i] * BlockSize);
        }

        if (flush)
        {
            RandomAccess.FlushToDisk(_file);
        }

        _generation++;
        buffer.AsSpan().Clear();
        Magic.CopyTo(buffer);
        BinaryPrimitives.WriteUInt64LittleEndian(buffer.AsSpan(8), _generation);
        BinaryPrimitives.WriteUInt32LittleEndian(buffer.AsSpan(16), count > 0 ? chain[0] : 0);
        BinaryPrimitives.WriteInt32LittleEndian(buffer.AsSpan(20), structure.Length);
        SHA256.HashData(structure, buffer.AsSpan(24, 32));
        SHA256.HashData(buffer.AsSpan(0, 64)).CopyTo(buffer.AsSpan(64));
        Write(buffer, (long)(_generation % 2) * BlockSize);
        if (flush)
        {
            RandomAccess.FlushToDisk(_file);
        }

        foreach (var block in _chain)
        {
            _freed.Add(new Extent(0, block, 1));
        }

        _chain = chain;
        foreach (var run in _freed)
        {
            Clear(run.Physical, run.Count);

            // The host gets its space back, and a snapshot has nothing to carry.
            Native.PunchHole(_file, (long)run.Physical * BlockSize, (long)run.Count * BlockSize);
        }

        _freed.Clear();
        Freed = 0;
    }

    /// <summary>Marks a run as used, while a structure is loaded.</summary>
    /// <exception cref="InvalidDataException">It is off the disk, or used twice.</exception>
    public void Claim(Extent run)
    {
        if (run.Count == 0 || run.Physical < FirstBlock || (ulong)run.Physical + run.Count > Total)
        {
            throw new InvalidDataException("a file has blocks that the disk has not");
        }

        for (var block = run.Physical; block < run.Physical + run.Count; block++)
        {
            if (IsUsed(block))
            {
                throw new InvalidDataException("two files have the same block");
            }
        }

        Mark(run.Physical, run.Count);
    }

    /// <summary>Finds free blocks: as many as asked for, or fewer that lie together.</summary>
    public Extent Allocate(uint most)
    {
        for (var round = 0; round < 2; round++)
        {
            var start = NextFree(_hint);
            if (start < Total)
            {
                var count = 1u;
                while (count < most && start + count < Total && !IsUsed(start + count))
                {
                    count++;
                }

                Mark(start, count);
                _hint = start + count;
                return new Extent(0, start, count);
            }

            _hint = FirstBlock;
        }

        throw new VolumeException(Errno.NoSpace);
    }

    /// <summary>Gives blocks back, for use behind the next commit.</summary>
    public void Free(IEnumerable<Extent> runs)
    {
        foreach (var run in runs)
        {
            _freed.Add(run);
            Freed += run.Count;
        }
    }

    public void Read(Span<byte> data, uint block, int offset) => ReadFully(data, ((long)block * BlockSize) + offset);

    public void Write(ReadOnlySpan<byte> data, uint block, int offset) => Write(data, ((long)block * BlockSize) + offset);

    private byte[] ReadChain(uint first, int length)
    {
        if (length < 0 || length > (long)Total * ChainBytes)
        {
            throw new InvalidDataException("the disk's structure is larger than the disk");
        }

        var structure = new MemoryStream();
        var buffer = new byte[BlockSize];
        for (var block = first; structure.Length < length;)
        {
            Claim(new Extent(0, block, 1));
            _chain.Add(block);
            ReadFully(buffer, (long)block * BlockSize);
            block = BinaryPrimitives.ReadUInt32LittleEndian(buffer);
            structure.Write(buffer, sizeof(uint), (int)Math.Min(ChainBytes, length - structure.Length));
        }

        return structure.ToArray();
    }

    private void ReadFully(Span<byte> data, long offset)
    {
        while (data.Length > 0)
        {
            int n;
            try
            {
                n = RandomAccess.Read(_file, data, offset);
            }
            catch (ObjectDisposedException)
            {
                throw new VolumeException(Errno.Io, "the machine is over");
            }

            if (n == 0)
            {
                data.Clear();
                return;
            }

            data = data[n..];
            offset += n;
        }
    }

    private void Write(ReadOnlySpan<byte> data, long offset)
    {
        try
        {
            RandomAccess.Write(_file, data, offset);
        }
        catch (ObjectDisposedException)
        {
            // A guest that has not noticed yet that its machine is over: the disk may be another's by now.
            throw new VolumeException(Errno.Io, "the machine is over");
        }
        catch (IOException e)
        {
            // The host's own disk is full: to the guest that is the same.
            throw new VolumeException(Errno.NoSpace, e.Message);
        }
    }

    private bool IsUsed(uint block) => (_used[block / 64] & (1UL << (int)(block % 64))) != 0;

    private uint NextFree(uint from)
    {
        for (var word = from / 64; word < _used.Length; word++)
        {
            var free = ~_used[word] & (word == from / 64 ? ulong.MaxValue << (int)(from % 64) : ulong.MaxValue);
            if (free != 0)
            {
                return (uint)(word * 64) + (uint)BitOperations.TrailingZeroCount(free);
            }
        }

        return Total;
    }

    private void Mark(uint first, uint count)
    {
        Used += count;
        for (var block = first; block < first + count; block++)
        {
            _used[block / 64] |= 1UL << (int)(block % 64);
        }
    }

    private void Clear(uint first, uint count)
    {
        Used -= count;
        for (var block = first; block < first + count; block++)
        {
            _used[block / 64] &= ~(1UL << (int)(block % 64));
        }
    }
}
