using System.Collections.Concurrent;
using Google.Protobuf;
using Sandbox.Guest.Protocol;
using Sandbox.Wasm.Worker.Volume;

namespace Sandbox.Wasm.Worker.Machine;

/// <summary>Files that the host has open. A file for writing has no name until its commit gives it one.</summary>
internal sealed class HandleTable(SessionVolume volume) : IDisposable
{
    private static readonly TimeSpan Unused = TimeSpan.FromMinutes(5);
    private readonly ConcurrentDictionary<ulong, OpenHandle> _handles = new();
    private ulong _next;

    public FileHandle Open(OpenFile request)
    {
        Expire();
        WasmMachine.RequireUser(request.User);
        if (_handles.Count >= ProtocolLimits.MaxFileHandles)
        {
            throw new WorkerException(ErrorCode.ResourceExhausted, $"{ProtocolLimits.MaxFileHandles} files are open already; close one.");
        }

        var path = WasmMachine.PathFrom(WasmMachine.Home, request.Path);
        try
        {
            var handle = request.Write is { } write ? OpenForWriting(path, write) : OpenForReading(path);
            var id = Interlocked.Increment(ref _next);
            _handles[id] = handle;
            return new FileHandle { Handle = id, Info = FileRequests.Describe(handle.Node, path) };
        }
        catch (VolumeException e)
        {
            throw WorkerException.Of(e, $"Cannot open {path}");
        }
    }

    public Chunk Read(ReadChunk request)
    {
        var handle = Get(request.Handle);
        if (request.Offset > long.MaxValue)
        {
            throw new WorkerException(ErrorCode.InvalidArgument, "The offset is beyond any file.");
        }

        var buffer = new byte[Math.Min(request.Length, ProtocolLimits.MaxChunkBytes)];
        var n = volume.Read(handle.Node, buffer, (long)request.Offset);
        return new Chunk { Offset = request.Offset, Data = ByteString.CopyFrom(buffer, 0, n), Eof = n == 0 };
    }

    public void Write(WriteChunk request)
    {
        var handle = Get(request.Handle);
        if (!handle.Writable || request.Data.Length > ProtocolLimits.MaxChunkBytes)
        {
            throw new WorkerException(ErrorCode.InvalidArgument, "The handle is not open for writing, or the chunk is too large.");
        }

        lock (handle)
        {
            if (request.Offset > long.MaxValue / 2 || (handle.Appends && request.Offset != handle.Written))
            {
                throw new WorkerException(ErrorCode.InvalidArgument, "The offset is beyond any file, or not where the last chunk of an appending handle ended.");
            }

            try
            {
                volume.Write(handle.Node, request.Data.Span, handle.Appends ? handle.Node.Size : (long)request.Offset);
            }
            catch (VolumeException e)
            {
                throw WorkerException.Of(e, handle.Path);
            }

            handle.Written = Math.Max(handle.Written, request.Offset + (ulong)request.Data.Length);
        }
    }

    public Response Close(CloseFile request)
    {
        if (!_handles.TryRemove(request.Handle, out var handle))
        {
            throw new WorkerException(ErrorCode.NotFound, "There is no such file handle; it may have been closed for want of use.");
        }

        var info = Finish(handle, request.Commit);
        return info is null ? new Response { Empty = new Empty() } : new Response { File = info };
    }

    public void Dispose()
    {
        foreach (var id in _handles.Keys)
        {
            if (_handles.TryRemove(id, out var handle))
            {
                Finish(handle, commit: false);
            }
        }
    }

    private Guest.Protocol.FileInfo? Finish(OpenHandle handle, bool commit)
    {
        lock (handle)
        {
            try
            {
                if (!handle.Writable)
                {
                    return null;
                }

                if (handle.Target is { } target)
                {
                    if (!commit)
                    {
                        return null;
                    }

                    volume.Place(handle.Node, target.Directory, target.Name);
                }

                volume.TellWritten(handle.Directory, handle.Name, handle.Node);
                volume.Commit(flush: false);
                return commit && handle.Target is not null ? FileRequests.Describe(handle.Node, handle.Path) : null;
            }
            catch (VolumeException e)
            {
                throw WorkerException.Of(e, $"Cannot put {handle.Path} into its place");
            }
            finally
            {
                volume.Close(handle.Node);
            }
        }
    }

    private OpenHandle OpenForReading(string path)
    {
        var (node, directory, name, _) = volume.OpenFile(volume.Root, path, follow: true, create: false, exclusive: false, 0);
        RequireFile(node, path);
        return new OpenHandle(path, node, directory, name);
    }

    private OpenHandle OpenForWriting(string path, OpenWrite write)
    {
        var labels = LabelRules.Checked(write);
        if (write.MakeParents && path.TrimEnd('/').LastIndexOf('/') is > 0 and var slash)
        {
            volume.MakeDirectories(path[..slash]);
        }

        var mode = write.Permissions == 0 ? 0x1a4 : write.Permissions & 0xfff;
        if (write.Append)
        {
            var (node, directory, name, _) = volume.OpenFile(volume.Root, path, follow: true, create: true, exclusive: false, mode);
            RequireFile(node, path);
            return new OpenHandle(path, node, directory, name) { Writable = true, Appends = true };
        }

        // A link is written through, as a shell's redirection would.
        var (parent, last, existing) = volume.Locate(volume.Root, path, follow: true);
        if (existing is not null and not { Kind: NodeKind.File })
        {
            throw new VolumeException(Errno.IsDirectory);
        }

        if (path.EndsWith('/'))
        {
            throw new VolumeException(Errno.IsDirectory);
        }

        // A file that is replaced keeps its permissions, unless others are asked for.
        var fresh = volume.NewUnnamed(write.Permissions == 0 && existing is not null ? existing.Mode : mode);
        fresh.Labels = labels;
        return new OpenHandle(path, fresh, parent, last) { Writable = true, Target = (parent, last) };
    }

    private void RequireFile(Node node, string path)
    {
        if (node.Kind != NodeKind.File)
        {
            volume.Close(node);
            throw node.Kind == NodeKind.Directory
                ? new WorkerException(ErrorCode.IsADirectory, $"Cannot open {path}: Is a directory", 21)
                : new WorkerException(ErrorCode.InvalidArgument, $"{path} is no regular file.", 22);
        }
    }

    private OpenHandle Get(ulong id)
    {
        if (!_handles.TryGetValue(id, out var handle))
        {
            throw new WorkerException(ErrorCode.NotFound, "There is no such file handle; it may have been closed for want of use.");
        }

        handle.LastUse = Environment.TickCount64;
        return handle;
    }

    private void Expire()
    {
        foreach (var (id, handle) in _handles)
        {
            if (Environment.TickCount64 - handle.LastUse > Unused.TotalMilliseconds && _handles.TryRemove(id, out var unused))
            {
                Finish(unused, commit: false);
            }
        }
    }

    private sealed class OpenHandle(string path, Node node, Node directory, string name)
    {
        public string Path { get; } = path;

        public Node Node { get; } = node;

        public Node Directory { get; } = directory;

        public string Name { get; } = name;

        /// <summary>Where a new file goes at its commit.</summary>
        public (Node Directory, string Name)? Target { get; init; }

        public bool Writable { get; init; }

        public bool Appends { get; init; }

        public ulong Written { get; set; }

        public long LastUse { get; set; } = Environment.TickCount64;
    }
}
