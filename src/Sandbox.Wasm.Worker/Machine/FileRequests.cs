using System.Text;
using Sandbox.Guest.Protocol;
using Sandbox.Wasm.Worker.Volume;
using FileInfo = Sandbox.Guest.Protocol.FileInfo;

namespace Sandbox.Wasm.Worker.Machine;

/// <summary>Files by path, for the host.</summary>
internal sealed class FileRequests(SessionVolume volume)
{
    private const uint UserId = 1000;

    public FileInfo Stat(StatPath request)
    {
        WasmMachine.RequireUser(request.User);
        var path = WasmMachine.PathFrom(WasmMachine.Home, request.Path);
        return Do(path, () => Describe(volume.Find(volume.Root, path, request.Follow), path));
    }

    /// <summary>Entries below a directory in byte order of their paths, a page at a time.</summary>
    public FileList List(ListDirectory request)
    {
        WasmMachine.RequireUser(request.User);
        var path = WasmMachine.PathFrom(WasmMachine.Home, request.Path);
        var limit = request.Limit == 0 ? ProtocolLimits.MaxListEntries : (int)Math.Min(request.Limit, ProtocolLimits.MaxListEntries);
        var directory = Do(path, () => volume.Find(volume.Root, path));
        if (directory.Kind != NodeKind.Directory)
        {
            throw new WorkerException(ErrorCode.NotADirectory, $"{path} is not a directory.", 20);
        }

        var found = new List<(string Path, Node Node)>();
        Collect(directory, path == "/" ? "" : path.TrimEnd('/'), (int)Math.Clamp(request.Depth, 1, 32), found);
        found.Sort(static (a, b) => ByteOrder(a.Path, b.Path));
        var list = new FileList();
        var size = 0;
        foreach (var (entry, node) in found)
        {
            if ((request.After.Length > 0 && ByteOrder(entry, request.After) <= 0) || Encoding.UTF8.GetByteCount(entry) > ProtocolLimits.MaxPathBytes)
            {
                continue;
            }

            // A page must fit a frame, however long the names are.
            var info = Describe(node, entry);
            size += info.CalculateSize() + 8;
            if (list.Entries.Count == limit || size > ProtocolLimits.MaxFrameBytes - 4096)
            {
                list.More = list.Entries.Count > 0;
                break;
            }

            list.Entries.Add(info);
        }

        return list;
    }

    public FileInfo MakeDirectory(MakeDirectory request)
    {
        WasmMachine.RequireUser(request.User);
        var path = WasmMachine.PathFrom(WasmMachine.Home, request.Path);
        return Do($"Cannot make directory {path}", () =>
        {
            var node = request.Parents ? volume.MakeDirectories(path) : volume.MakeDirectory(volume.Root, path, request.Mode == 0 ? 0x1ed : request.Mode & 0xfff);
            volume.Commit(flush: false);
            return Describe(node, path);
        });
    }

    public FileInfo Move(MovePath request)
    {
        WasmMachine.RequireUser(request.User);
        var (from, to) = (WasmMachine.PathFrom(WasmMachine.Home, request.From), WasmMachine.PathFrom(WasmMachine.Home, request.To));
        return Do($"Cannot move {from} to {to}", () =>
        {
            var node = volume.Move(volume.Root, from, volume.Root, to, request.Overwrite);
            volume.Commit(flush: false);
            return Describe(node, to);
        });
    }

    public void Remove(RemovePath request)
    {
        WasmMachine.RequireUser(request.User);
        var path = WasmMachine.PathFrom(WasmMachine.Home, request.Path);
        Do($"Cannot remove {path}", () =>
        {
            volume.Remove(volume.Root, path, directoryOnly: false, fileOnly: false, request.Recursive);
            volume.Commit(flush: false);
            return 0;
        });
    }

    /// <summary>What the host is told of a file.</summary>
    public static FileInfo Describe(Node node, string path)
    {
        var info = new FileInfo
        {
            Path = path,
            Type = node.Kind switch { NodeKind.Directory => FileType.Directory, NodeKind.Link => FileType.Symlink, _ => FileType.Regular },
            Size = node.Kind == NodeKind.Directory ? 4096UL : (ulong)node.Size,
            Mode = node.Mode,
            Uid = UserId,
            Gid = UserId,
            Owner = WasmMachine.User,
            Group = WasmMachine.User,
            ModifiedUnixNanos = node.Modified,
            SymlinkTarget = node.Target,
            Blocks = (ulong)node.Extents.Blocks * 8,
        };
        foreach (var (name, value) in node.Labels ?? [])
        {
            info.Metadata[name] = value;
        }

        return info;
    }

    private static T Do<T>(string what, Func<T> work)
    {
        try
        {
            return work();
        }
        catch (VolumeException e)
        {
            throw WorkerException.Of(e, what);
        }
    }

    private static int ByteOrder(string left, string right)
    {
        // Only surrogates make the order of UTF-16 differ from that of bytes.
        var length = Math.Min(left.Length, right.Length);
        for (var i = 0; i < length; i++)
        {
            var (l, r) = (left[i], right[i]);
            if (l != r)
            {
                return char.IsSurrogate(l) == char.IsSurrogate(r) ? l - r : char.IsSurrogate(l) ? 1 : -1;
            }
        }

        return left.Length - right.Length;
    }

    private void Collect(Node directory, string prefix, int depth, List<(string Path, Node Node)> found)
    {
        foreach (var (name, node) in volume.List(directory))
        {
            found.Add((prefix + "/" + name, node));
            if (depth > 1 && node.Kind == NodeKind.Directory)
            {
                Collect(node, prefix + "/" + name, depth - 1, found);
            }
        }
    }
}
