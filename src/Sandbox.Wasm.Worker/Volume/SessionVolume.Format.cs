using System.Text;

namespace Sandbox.Wasm.Worker.Volume;

// How the tree is written on the disk. It is read back by a worker that does not trust it: a snapshot of it may have travelled, and a worker before this one may have been taken over.
internal sealed partial class SessionVolume
{
    private const int Format = 1;

    private byte[] Serialize()
    {
        var stream = new MemoryStream();
        using var writer = new BinaryWriter(stream, Encoding.UTF8, leaveOpen: true);
        var nodes = _nodes.Values.Append(Root).DistinctBy(n => n.Id).ToList();
        writer.Write(Format);
        writer.Write(_nextId);
        writer.Write(Root.Id);
        writer.Write(nodes.Count);
        foreach (var node in nodes)
        {
            writer.Write(node.Id);
            writer.Write((byte)node.Kind);
            writer.Write(node.Mode);
            writer.Write(node.Modified);
            writer.Write(node.Accessed);
            writer.Write(node.Size);
            writer.Write(node.Target);
            writer.Write7BitEncodedInt(node.Labels?.Count ?? 0);
            foreach (var (name, value) in node.Labels ?? [])
            {
                writer.Write(name);
                writer.Write(value);
            }

            writer.Write7BitEncodedInt(node.Extents.Count);
            foreach (var run in node.Extents.Runs)
            {
                writer.Write(run.Logical);
                writer.Write(run.Physical);
                writer.Write(run.Count);
            }
        }

        foreach (var directory in nodes.Where(n => n.Kind == NodeKind.Directory))
        {
            writer.Write(directory.Id);
            writer.Write(directory.Children!.Count);
            foreach (var (name, child) in directory.Children)
            {
                writer.Write(name);
                writer.Write(child.Id);
            }
        }

        writer.Flush();
        return stream.ToArray();
    }

    private void Parse(byte[] structure)
    {
        try
        {
            using var reader = new BinaryReader(new MemoryStream(structure), Encoding.UTF8);
            if (reader.ReadInt32() is var format && format != Format)
            {
                throw new InvalidDataException($"the disk has format {format}; this program reads format {Format}");
            }

            _nextId = reader.ReadUInt64();
            var root = reader.ReadUInt64();
            for (var left = reader.ReadInt32(); left > 0; left--)
            {
                var node = ReadNode(reader);
                if (!_nodes.TryAdd(node.Id, node) || node.Id >= _nextId)
                {
                    throw new InvalidDataException("a file is there twice");
                }
            }

            Root = _nodes.GetValueOrDefault(root) is { Kind: NodeKind.Directory } found ? found : throw new InvalidDataException("there is no root directory");
            foreach (var _ in _nodes.Values.Where(n => n.Kind == NodeKind.Directory).ToList())
            {
                ReadDirectory(reader);
            }

            RequireTree();
            _structureBytes = structure.Length;
        }
        catch (Exception e) when (e is EndOfStreamException or FormatException or KeyNotFoundException or ArgumentException)
        {
            throw new InvalidDataException($"the disk's structure is damaged: {e.Message}", e);
        }
    }

    private Node ReadNode(BinaryReader reader)
    {
        var (id, kind, mode, modified, accessed, size) = (reader.ReadUInt64(), (NodeKind)reader.ReadByte(), reader.ReadUInt32(), reader.ReadInt64(), reader.ReadInt64(), reader.ReadInt64());
        if (!Enum.IsDefined(kind) || size is < 0 or > MaxFileSize)
        {
            throw new InvalidDataException("a file has an impossible kind or size");
        }

        var node = new Node(id, kind, mode & 0xfff, modified) { Accessed = accessed, Size = size, Target = reader.ReadString() };
        if (kind == NodeKind.Link && node.Target.Length == 0)
        {
            throw new InvalidDataException("a link points nowhere");
        }

        for (var labels = reader.Read7BitEncodedInt(); labels > 0; labels--)
        {
            (node.Labels ??= new(StringComparer.Ordinal))[reader.ReadString()] = reader.ReadString();
        }

        var end = 0u;
        for (var runs = reader.Read7BitEncodedInt(); runs > 0; runs--)
        {
            var run = new Extent(reader.ReadUInt32(), reader.ReadUInt32(), reader.ReadUInt32());
            if (kind != NodeKind.File || run.Logical < end || run.LogicalEnd < run.Logical)
            {
                throw new InvalidDataException("a file's blocks are out of order");
            }

            _store!.Claim(run);
            node.Extents.Add(run);
            end = run.LogicalEnd;
        }

        return node;
    }

    private void ReadDirectory(BinaryReader reader)
    {
        var directory = _nodes[reader.ReadUInt64()];
        if (directory.Children is not { Count: 0 } children)
        {
            throw new InvalidDataException("a directory is there twice");
        }

        for (var left = reader.ReadInt32(); left > 0; left--)
        {
            var (name, child) = (reader.ReadString(), _nodes[reader.ReadUInt64()]);
            if (name is "" or "." or ".." || name.Contains('/') || name.Contains('\0') || Encoding.UTF8.GetByteCount(name) > MaxNameBytes)
            {
                throw new InvalidDataException("a file has an impossible name");
            }

            children.Add(name, child);
            child.Links++;
            if (child.Kind == NodeKind.Directory)
            {
                if (child.Links > 1 || ReferenceEquals(child, Root))
                {
                    throw new InvalidDataException("a directory has two names");
                }

                (child.Parent, child.Name) = (directory, name);
            }
        }
    }

    /// <summary>Every directory hangs from the root, not too deep and not from itself.</summary>
    private void RequireTree()
    {
        foreach (var node in _nodes.Values)
        {
            var depth = 0;
            for (var above = node.Parent; above is not null && !ReferenceEquals(above, Root); above = above.Parent)
            {
                if (++depth > MaxDepth)
                {
                    throw new InvalidDataException("a directory is its own parent");
                }
            }

            if (!ReferenceEquals(node, Root) && (node.Links == 0 || (node.Kind == NodeKind.Directory && node.Parent is null)))
            {
                throw new InvalidDataException("a file is nowhere");
            }
        }
    }
}
