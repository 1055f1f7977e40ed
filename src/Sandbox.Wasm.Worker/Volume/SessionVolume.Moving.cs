namespace Sandbox.Wasm.Worker.Volume;

// Names: moving and removing, and what all changes of the tree share.
internal sealed partial class SessionVolume
{
    public Node Move(Node fromStart, string from, Node toStart, string to, bool overwrite)
    {
        lock (_lock)
        {
            var source = Walk(fromStart, from, follow: false);
            var target = Walk(toStart, to, follow: false);
            var node = source.Node ?? throw new VolumeException(Errno.NoEntry);
            if ((node.Parent is null && node.Kind == NodeKind.Directory) || source.Name == "." || target.Name == ".")
            {
                throw new VolumeException(Errno.Busy);
            }

            if (ReferenceEquals(node, target.Node))
            {
                return node;
            }

            if (target.Node is { } old)
            {
                if (!overwrite)
                {
                    throw new VolumeException(Errno.Exists);
                }

                RequireReplaceable(node, old);
            }

            if (node.Kind == NodeKind.Directory)
            {
                for (var above = target.Directory; above is not null; above = above.Parent)
                {
                    if (ReferenceEquals(above, node))
                    {
                        throw new VolumeException(Errno.Invalid);
                    }
                }

                if (DepthOf(target.Directory) + HeightOf(node) >= MaxDepth)
                {
                    throw new VolumeException(Errno.NameTooLong);
                }
            }

            RequireAlive(target.Directory);
            if (target.Node is not null)
            {
                Detach(target.Directory, target.Name, target.Node);
            }

            source.Directory.Children!.Remove(source.Name);
            target.Directory.Children![target.Name] = node;
            _structureBytes += target.Name.Length - source.Name.Length;
            if (node.Kind == NodeKind.Directory)
            {
                (node.Parent, node.Name) = (target.Directory, target.Name);
            }

            Touch(source.Directory);
            Touch(target.Directory);
            Changed?.Invoke(new Change(ChangeKind.MovedAway, source.Directory, source.Name, node));
            Changed?.Invoke(new Change(ChangeKind.Created, target.Directory, target.Name, node));
            return node;
        }
    }

    public void Remove(Node start, string path, bool directoryOnly, bool fileOnly, bool recursive)
    {
        lock (_lock)
        {
            var (directory, name, node, mustBeDirectory) = Walk(start, path, follow: false);
            if (node is null)
            {
                throw new VolumeException(Errno.NoEntry);
            }

            if (node.Kind == NodeKind.Directory)
            {
                if (node.Parent is null || name == ".")
                {
                    throw new VolumeException(Errno.Busy);
                }

                if (fileOnly)
                {
                    throw new VolumeException(Errno.IsDirectory);
                }

                if (node.Children!.Count > 0)
                {
                    if (!recursive)
                    {
                        throw new VolumeException(Errno.NotEmpty);
                    }

                    Empty(node);
                }
            }
            else if (directoryOnly || mustBeDirectory)
            {
                throw new VolumeException(Errno.NotDirectory);
            }

            Detach(directory, name, node);
        }
    }

    private Node New(NodeKind kind, uint mode)
    {
        RequireRoom();
        return new Node(_nextId++, kind, mode & 0xfff, Now);
    }

    private void RequireRoom()
    {
        if (_store is null)
        {
            throw new VolumeException(Errno.ReadOnly);
        }

        if (_nodes.Count >= MaxNodes || FreeBlocks() < 1)
        {
            Commit(flush: false);
            if (_nodes.Count >= MaxNodes || FreeBlocks() < 1)
            {
                throw new VolumeException(Errno.NoSpace);
            }
        }
    }

    private void Attach(Node directory, string name, Node node)
    {
        if (name is "." or ".." || name.Contains('\0'))
        {
            throw new VolumeException(name.Contains('\0') ? Errno.Invalid : Errno.Exists);
        }

        if (_store is null)
        {
            throw new VolumeException(Errno.ReadOnly);
        }

        RequireAlive(directory);
        if (node.Kind == NodeKind.Directory)
        {
            if (DepthOf(directory) >= MaxDepth)
            {
                throw new VolumeException(Errno.NameTooLong);
            }

            (node.Parent, node.Name) = (directory, name);
        }

        directory.Children!.Add(name, node);
        node.Links++;
        _nodes[node.Id] = node;
        _structureBytes += 64 + (name.Length * 2);
        Touch(directory);
        Changed?.Invoke(new Change(ChangeKind.Created, directory, name, node));
    }

    private void Detach(Node directory, string name, Node node)
    {
        directory.Children!.Remove(name);
        node.Links--;
        node.Parent = null;
        if (node.Links == 0)
        {
            _nodes.Remove(node.Id);
        }

        Collect(node);
        Touch(directory);
        Changed?.Invoke(new Change(ChangeKind.Removed, directory, name, node));
    }

    private void Empty(Node directory)
    {
        foreach (var (name, node) in directory.Children!.ToList())
        {
            if (node.Kind == NodeKind.Directory)
            {
                Empty(node);
            }

            Detach(directory, name, node);
        }
    }

    private void Touch(Node directory)
    {
        directory.Modified = directory.Changed = Now;
        _dirty = true;
    }

    private void RequireAlive(Node directory)
    {
        if (directory.Parent is null && !ReferenceEquals(directory, Root))
        {
            throw new VolumeException(Errno.NoEntry);
        }
    }

    private static void RequireReplaceable(Node node, Node old)
    {
        if (old.Kind == NodeKind.Directory)
        {
            if (node.Kind != NodeKind.Directory)
            {
                throw new VolumeException(Errno.IsDirectory);
            }

            if (old.Children!.Count > 0)
            {
                throw new VolumeException(Errno.NotEmpty);
            }
        }
        else if (node.Kind == NodeKind.Directory)
        {
            throw new VolumeException(Errno.NotDirectory);
        }
    }

    private static int DepthOf(Node directory)
    {
        var depth = 0;
        for (var node = directory; node.Parent is not null; node = node.Parent)
        {
            depth++;
        }

        return depth;
    }

    private static int HeightOf(Node node) =>
        node.Children is { Count: > 0 } children ? 1 + children.Values.Max(c => c.Kind == NodeKind.Directory ? HeightOf(c) : 0) : 1;
}
