using System.Text;

namespace Sandbox.Wasm.Worker.Volume;

// Names: finding and making.
internal sealed partial class SessionVolume
{
    private const int MaxLinksFollowed = 40;
    private const int MaxNameBytes = 255;
    private const int MaxPathBytes = 4096;

    /// <summary>Deepest directory: what walks the tree may then recurse.</summary>
    private const int MaxDepth = 200;

    /// <summary>Finds a node.</summary>
    /// <param name="start">Where a relative path begins.</param>
    /// <param name="path">Absolute or relative.</param>
    /// <param name="follow">Whether a link at its end is followed.</param>
    public Node Find(Node start, string path, bool follow = true)
    {
        lock (_lock)
        {
            return Walk(start, path, follow).Node ?? throw new VolumeException(Errno.NoEntry);
        }
    }

    /// <summary>Finds the directory that a path ends in, the last name, and what bears it now.</summary>
    public (Node Directory, string Name, Node? Node) Locate(Node start, string path, bool follow)
    {
        lock (_lock)
        {
            var (directory, name, node, mustBeDirectory) = Walk(start, path, follow);
            return mustBeDirectory && node is { Kind: not NodeKind.Directory } ? throw new VolumeException(Errno.NotDirectory) : (directory, name, node);
        }
    }

    /// <summary>Finds a file, or makes it.</summary>
    /// <returns>The node, opened once, where it is, and whether it was made.</returns>
    public (Node Node, Node Directory, string Name, bool Made) OpenFile(Node start, string path, bool follow, bool create, bool exclusive, uint mode)
    {
        lock (_lock)
        {
            var (directory, name, node, mustBeDirectory) = Walk(start, path, follow || (create && !exclusive));
            if (node is not null)
            {
                if (create && exclusive)
                {
                    throw new VolumeException(Errno.Exists);
                }

                if (mustBeDirectory && node.Kind != NodeKind.Directory)
                {
                    throw new VolumeException(Errno.NotDirectory);
                }

                node.Opens++;
                return (node, directory, name, false);
            }

            if (!create)
            {
                throw new VolumeException(Errno.NoEntry);
            }

            if (mustBeDirectory)
            {
                throw new VolumeException(Errno.IsDirectory);
            }

            var made = New(NodeKind.File, mode);
            Attach(directory, name, made);
            made.Opens++;
            return (made, directory, name, true);
        }
    }

    /// <summary>A file without a name, opened once: it is there only when <see cref="Place"/> gives it one.</summary>
    public Node NewUnnamed(uint mode)
    {
        lock (_lock)
        {
            var node = New(NodeKind.File, mode);
            node.Opens++;
            return node;
        }
    }

    /// <summary>Gives a file without a name its place, instead of what is there.</summary>
    public void Place(Node node, Node directory, string name)
    {
        lock (_lock)
        {
            RequireAlive(directory);
            if (directory.Children!.TryGetValue(name, out var old))
            {
                if (old.Kind == NodeKind.Directory)
                {
                    throw new VolumeException(Errno.IsDirectory);
                }

                node.Mode = node.Mode == 0 ? old.Mode : node.Mode;
                Detach(directory, name, old);
            }

            Attach(directory, name, node);
        }
    }

    public Node MakeDirectory(Node start, string path, uint mode)
    {
        lock (_lock)
        {
            var (directory, name, node, _) = Walk(start, path, follow: false);
            if (node is not null)
            {
                throw new VolumeException(Errno.Exists);
            }

            var made = New(NodeKind.Directory, mode);
            Attach(directory, name, made);
            return made;
        }
    }

    /// <summary>Makes a directory and those above it that are missing.</summary>
    public Node MakeDirectories(string path)
    {
        lock (_lock)
        {
            var at = "";
            var node = Root;
            foreach (var part in path.Split('/', StringSplitOptions.RemoveEmptyEntries))
            {
                at += "/" + part;
                var (directory, name, found, _) = Walk(Root, at, follow: true);
                if (found is null)
                {
                    found = New(NodeKind.Directory, 0x1ed);
                    Attach(directory, name, found);
                }

                node = found.Kind == NodeKind.Directory ? found : throw new VolumeException(Errno.NotDirectory);
            }

            return node;
        }
    }

    public void MakeLink(Node start, string path, string target)
    {
        lock (_lock)
        {
            var (directory, name, node, _) = Walk(start, path, follow: false);
            if (node is not null)
            {
                throw new VolumeException(Errno.Exists);
            }

            if (target.Length == 0 || Encoding.UTF8.GetByteCount(target) > MaxPathBytes)
            {
                throw new VolumeException(target.Length == 0 ? Errno.NoEntry : Errno.NameTooLong);
            }

            RequireRoom();
            var link = new Node(_nextId++, NodeKind.Link, 0x1ff, Now) { Target = target, Size = Encoding.UTF8.GetByteCount(target) };
            _structureBytes += link.Size;
            Attach(directory, name, link);
        }
    }

    public void AddName(Node node, Node start, string path)
    {
        lock (_lock)
        {
            var (directory, name, there, _) = Walk(start, path, follow: false);
            if (there is not null)
            {
                throw new VolumeException(Errno.Exists);
            }

            if (node.Kind == NodeKind.Directory || node.Static is not null || node.Links == 0)
            {
                throw new VolumeException(Errno.NotPermitted);
            }

            Attach(directory, name, node);
        }
    }

    /// <summary>Names in a directory with what bears them, as they are at this moment.</summary>
    public List<(string Name, Node Node)> List(Node directory)
    {
        lock (_lock)
        {
            return directory.Children is { } children ? [.. children.Select(c => (c.Key, c.Value))] : throw new VolumeException(Errno.NotDirectory);
        }
    }

    /// <summary>Path of a directory, or <see langword="null"/> if it has been removed.</summary>
    public string? PathOf(Node directory)
    {
        lock (_lock)
        {
            var parts = new Stack<string>();
            for (var node = directory; !ReferenceEquals(node, Root); node = node.Parent)
            {
                if (node.Parent is null)
                {
                    return null;
                }

                parts.Push(node.Name);
            }

            return "/" + string.Join('/', parts);
        }
    }

    /// <summary>Changes what is said of a node.</summary>
    public void Describe(Node node, Action<Node> change)
    {
        lock (_lock)
        {
            if (node.Static is not null)
            {
                throw new VolumeException(Errno.ReadOnly);
            }

            var before = node.Labels?.Sum(l => l.Key.Length + l.Value.Length) ?? 0;
            change(node);
            _structureBytes += (node.Labels?.Sum(l => l.Key.Length + l.Value.Length) ?? 0) - before;
            node.Changed = Now;
            _dirty = true;
        }
    }

    /// <summary>Says that a file was written, once whoever wrote it is done.</summary>
    public void TellWritten(Node directory, string name, Node node)
    {
        lock (_lock)
        {
            if (directory.Children?.GetValueOrDefault(name) == node)
            {
                Changed?.Invoke(new Change(ChangeKind.Written, directory, name, node));
            }
        }
    }

    private (Node Directory, string Name, Node? Node, bool MustBeDirectory) Walk(Node start, string path, bool follow)
    {
        if (path.Length == 0)
        {
            throw new VolumeException(Errno.NoEntry);
        }

        if (path.Length > MaxPathBytes)
        {
            throw new VolumeException(Errno.NameTooLong);
        }

        var rest = new Stack<string>();
        var mustBeDirectory = Push(rest, path);
        var at = path[0] == '/' ? Root : start;
        var (directory, name, links) = (at, ".", 0);
        Node? node = at;
        while (rest.TryPop(out var part))
        {
            var here = node ?? throw new VolumeException(Errno.NoEntry);
            if (here.Kind != NodeKind.Directory)
            {
                throw new VolumeException(Errno.NotDirectory);
            }

            if (part == ".")
            {
                continue;
            }

            if (part == "..")
            {
                // Above the root is the root.
                node = here.Parent ?? here;
                (directory, name) = (node, ".");
                continue;
            }

            if (Encoding.UTF8.GetByteCount(part) > MaxNameBytes)
            {
                throw new VolumeException(Errno.NameTooLong);
            }

            (directory, name) = (here, part);
            node = here.Children!.GetValueOrDefault(part);
            if (node is { Kind: NodeKind.Link } link && (rest.Count > 0 || follow || mustBeDirectory))
            {
                if (++links > MaxLinksFollowed)
                {
                    throw new VolumeException(Errno.TooManyLinks);
                }

                var last = rest.Count == 0;
                mustBeDirectory |= Push(rest, link.Target) && last;
                node = link.Target[0] == '/' ? Root : here;
                (directory, name) = (node, ".");
            }
        }

        return (directory, name, node, mustBeDirectory);

        static bool Push(Stack<string> rest, string path)
        {
            var parts = path.Split('/', StringSplitOptions.RemoveEmptyEntries);
            for (var i = parts.Length - 1; i >= 0; i--)
            {
                rest.Push(parts[i]);
            }

            return path[^1] == '/';
        }
    }
}
