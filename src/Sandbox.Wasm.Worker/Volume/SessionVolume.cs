using Microsoft.Win32.SafeHandles;

namespace Sandbox.Wasm.Worker.Volume;

/// <summary>
/// A session's file system: a tree in memory whose content lies in one file of the host, the session's disk. No path of a guest ever reaches the host's file system, so there is nothing to traverse
/// out of, no link to follow and no race to win; and the disk's size is counted here, to the block. Safe for concurrent use; every operation is short.
/// </summary>
internal sealed partial class SessionVolume : IDisposable
{
    private const int BlockSize = BlockStore.BlockSize;

    /// <summary>Blocks that are left for the structure to grow while it is written.</summary>
    private const int Reserve = 16;

    /// <summary>Largest file: holes cost nothing, but offsets must fit everywhere.</summary>
    private const long MaxFileSize = 1L << 43;

    private readonly BlockStore? _store;
    private readonly Lock _lock = new();
    private readonly Dictionary<ulong, Node> _nodes = [];
    private ulong _nextId = 1;
    private long _structureBytes;
    private bool _dirty;
    private bool _closed;

    private SessionVolume(BlockStore? store)
    {
        _store = store;
        Root = new Node(_nextId++, NodeKind.Directory, 0x1ed, Now);
    }

    /// <summary>Told of every change, with the lock held: must be quick, and must not come back.</summary>
    public event Action<Change>? Changed;

    public Node Root { get; private set; }

    /// <summary>Memory that the tree takes, an estimate in bytes.</summary>
    public long MemoryBytes => (Volatile.Read(ref _structureBytes) * 3) + (_nodes.Count * 400L);

    private static long Now => (DateTimeOffset.UtcNow - DateTimeOffset.UnixEpoch).Ticks * 100;

    private int MaxNodes => (int)Math.Clamp((_store?.Total ?? 0) / 4L, 256, 200_000);

    /// <summary>Opens a disk, or makes a new one in an empty file.</summary>
    /// <exception cref="InvalidDataException">The file holds something else.</exception>
    public static SessionVolume Open(SafeFileHandle file, long bytes)
    {
        var volume = new SessionVolume(new BlockStore(file, bytes));
        if (volume._store!.Load() is { } structure)
        {
            volume.Parse(structure);
        }
        else
        {
            volume.MakeDirectories("/home/user");
            volume.MakeDirectories("/tmp");
            volume._dirty = true;
            volume.Commit(flush: false);
        }

        return volume;
    }

    /// <summary>A tree without a disk, for files that are part of this program.</summary>
    public static SessionVolume Fixed(params ReadOnlySpan<(string Name, byte[] Content)> files)
    {
        var volume = new SessionVolume(null);
        foreach (var (name, content) in files)
        {
            var node = new Node(volume._nextId++, NodeKind.File, 0x124, Now) { Static = content, Size = content.Length, Links = 1 };
            volume.Root.Children![name] = node;
        }

        return volume;
    }

    public void Dispose()
    {
        lock (_lock)
        {
            try
            {
                Commit(flush: false);
            }
            catch (VolumeException)
            {
                // The host's disk is full; what was committed before stays.
            }

            _closed = true;
            _store?.Dispose();
        }
    }

    /// <summary>Bytes in all, and bytes that can still be written.</summary>
    public (long Total, long Free) Space()
    {
        lock (_lock)
        {
            return _store is null ? (0, 0) : ((long)_store.Total * BlockSize, Math.Max(0, FreeBlocks() + _store.Freed) * BlockSize);
        }
    }

    /// <summary>Makes what has changed last: whatever happens to this process, the disk has it.</summary>
    /// <param name="flush">Wait for the device too.</param>
    public void Commit(bool flush)
    {
        lock (_lock)
        {
            if (_store is not null && !_closed && (_dirty || flush))
            {
                var structure = Serialize();
                _store.Commit(structure, flush);
                Volatile.Write(ref _structureBytes, structure.Length);
                _dirty = false;
            }
        }
    }

    public int Read(Node node, Span<byte> data, long offset)
    {
        lock (_lock)
        {
            if (node.Kind != NodeKind.File)
            {
                throw new VolumeException(Errno.IsDirectory);
            }

            if (offset < 0 || offset >= node.Size)
            {
                return 0;
            }

            data = data[..(int)Math.Min(data.Length, node.Size - offset)];
            if (node.Static is { } content)
            {
                content.AsSpan((int)offset, data.Length).CopyTo(data);
                return data.Length;
            }

            for (var done = 0; done < data.Length;)
            {
                var (block, within) = ((uint)((offset + done) / BlockSize), (int)((offset + done) % BlockSize));
                var (physical, count) = node.Extents.Find(block);
                var part = data.Slice(done, (int)Math.Min(data.Length - done, ((long)count * BlockSize) - within));
                if (physical == 0)
                {
                    part.Clear();
                }
                else
                {
                    _store!.Read(part, physical, within);
                }

                done += part.Length;
            }

            return data.Length;
        }
    }

    /// <summary>Writes all of it, or throws when the disk is full; what fitted is written then.</summary>
    public void Write(Node node, ReadOnlySpan<byte> data, long offset)
    {
        lock (_lock)
        {
            RequireWritable(node);
            if (offset < 0 || offset + data.Length > MaxFileSize)
            {
                throw new VolumeException(Errno.TooBig);
            }

            _dirty = true;
            for (var done = 0; done < data.Length;)
            {
                var at = offset + done;
                var (block, within) = ((uint)(at / BlockSize), (int)(at % BlockSize));
                var (physical, count) = node.Extents.Find(block);
                if (physical == 0)
                {
                    var wanted = (uint)Math.Min(count, (within + data.Length - done + BlockSize - 1) / BlockSize);
                    (physical, count) = Grow(node, block, wanted);
                    BlankEdges(physical, count, within, data.Length - done);
                }

                var part = data.Slice(done, (int)Math.Min(data.Length - done, ((long)count * BlockSize) - within));
                _store!.Write(part, physical, within);
                done += part.Length;
                node.Size = Math.Max(node.Size, at + part.Length);
            }

            node.Modified = node.Changed = Now;
        }
    }

    public void Resize(Node node, long size)
    {
        lock (_lock)
        {
            RequireWritable(node);
            if (size is < 0 or > MaxFileSize)
            {
                throw new VolumeException(Errno.TooBig);
            }

            _dirty = true;
            if (size < node.Size)
            {
                _store!.Free(node.Extents.CutFrom((uint)((size + BlockSize - 1) / BlockSize)));

                // What lies behind the end in its last block must read as zeros if the file grows again.
                var (physical, _) = node.Extents.Find((uint)(size / BlockSize));
                if (physical != 0 && size % BlockSize != 0)
                {
                    _store.Write(new byte[BlockSize - (int)(size % BlockSize)], physical, (int)(size % BlockSize));
                }
            }

            node.Size = size;
            node.Modified = node.Changed = Now;
        }
    }

    /// <summary>One more descriptor on a node.</summary>
    public void Open(Node node)
    {
        lock (_lock)
        {
            node.Opens++;
        }
    }

    /// <summary>A descriptor is closed. A file that nothing leads to any more is gone with its last one.</summary>
    public void Close(Node node)
    {
        lock (_lock)
        {
            node.Opens--;
            Collect(node);
        }
    }

    private void Collect(Node node)
    {
        if (node is { Links: 0, Opens: 0, Kind: NodeKind.File, Static: null })
        {
            _store!.Free(node.Extents.CutFrom(0));
            _dirty = true;
        }
    }

    private long FreeBlocks() =>
        _store!.Total - _store.Used - (((_structureBytes * 2) + (_nodes.Count * 16L)) / BlockSize) - Reserve;

    private (uint Physical, uint Count) Grow(Node node, uint block, uint wanted)
    {
        // The structure grows with each run of blocks too, and must still fit.
        if (FreeBlocks() < 1)
        {
            Commit(flush: false);
            if (FreeBlocks() < 1)
            {
                throw new VolumeException(Errno.NoSpace);
            }
        }

        var run = _store!.Allocate((uint)Math.Min(wanted, FreeBlocks()));
        var before = node.Extents.Count;
        node.Extents.Add(run with { Logical = block });
        _structureBytes += (node.Extents.Count - before) * 12;
        return (run.Physical, run.Count);
    }

    /// <summary>Fresh blocks hold what was there before: the parts of the first and last one that are not written now are blanked.</summary>
    private void BlankEdges(uint physical, uint count, int within, int length)
    {
        if (within > 0)
        {
            _store!.Write(new byte[within], physical, 0);
        }

        var end = Math.Min(within + (long)length, (long)count * BlockSize);
        if (end % BlockSize != 0)
        {
            _store!.Write(new byte[BlockSize - (int)(end % BlockSize)], physical + (uint)(end / BlockSize), (int)(end % BlockSize));
        }
    }

    private static void RequireWritable(Node node)
    {
        if (node.Kind != NodeKind.File)
        {
            throw new VolumeException(Errno.IsDirectory);
        }

        if (node.Static is not null)
        {
            throw new VolumeException(Errno.ReadOnly);
        }
    }
}

internal enum ChangeKind
{
    Created,
    Written,
    Removed,
    MovedAway,
    Attributes,
}

/// <summary>A change of the tree.</summary>
internal readonly record struct Change(ChangeKind Kind, Node Directory, string Name, Node Node);
