using System.Collections.Concurrent;
using Google.Protobuf;
using Microsoft.Win32.SafeHandles;
using Sandbox.Guest.Protocol;

namespace Sandbox.Guest.Agent.Files;

/// <summary>Files that the host has open. A file for writing is written beside its place and moved there at the commit.</summary>
internal sealed class HandleTable
{
    private static readonly TimeSpan Unused = TimeSpan.FromMinutes(5);
    private readonly ConcurrentDictionary<ulong, OpenHandle> _handles = new();
    private ulong _next;

    public FileHandle Open(OpenFile request, string path)
    {
        Expire();
        if (_handles.Count >= ProtocolLimits.MaxFileHandles)
        {
            throw new AgentException(ErrorCode.ResourceExhausted, $"{ProtocolLimits.MaxFileHandles} files are open already; close one.");
        }

        var handle = request.Write is { } write ? OpenForWriting(path, write) : OpenForReading(path);
        var id = Interlocked.Increment(ref _next);
        _handles[id] = handle;
        return new FileHandle { Handle = id, Info = FileOperations.Stat(handle.Temporary ?? path, follow: true) };
    }

    public Chunk Read(ReadChunk request)
    {
        var handle = Get(request.Handle);
        var buffer = new byte[Math.Min(request.Length, ProtocolLimits.MaxChunkBytes)];
        var n = FileOperations.Do(handle.Path, () => RandomAccess.Read(handle.File, buffer, (long)request.Offset));
        return new Chunk { Offset = request.Offset, Data = ByteString.CopyFrom(buffer, 0, n), Eof = n == 0 };
    }

    public void Write(WriteChunk request)
    {
        var handle = Get(request.Handle);
        if (!handle.Writable || request.Data.Length > ProtocolLimits.MaxChunkBytes)
        {
            throw new AgentException(ErrorCode.InvalidArgument, "The handle is not open for writing, or the chunk is too large.");
        }

        FileOperations.Do(handle.Path, () =>
        {
            RandomAccess.Write(handle.File, request.Data.Span, handle.Base + (long)request.Offset);
            return 0;
        });
    }

    public void Close(CloseFile request)
    {
        if (!_handles.TryRemove(request.Handle, out var handle))
        {
            throw new AgentException(ErrorCode.NotFound, "There is no such file handle; it may have been closed for want of use.");
        }

        handle.File.Dispose();
        if (handle.Temporary is { } temporary)
        {
            if (request.Commit)
            {
                FileOperations.Do(handle.Path, () =>
                {
                    File.Move(temporary, handle.Path, overwrite: true);
                    return 0;
                });
            }
            else
            {
                File.Delete(temporary);
            }
        }
    }

    private static OpenHandle OpenForReading(string path)
    {
        // Checked before it is opened: opening a pipe would wait for its other end, and a device may do anything.
        var info = FileOperations.Stat(path, follow: true);
        if (info.Type != FileType.Regular)
        {
            throw new AgentException(info.Type == FileType.Directory ? ErrorCode.IsADirectory : ErrorCode.InvalidArgument, $"{path} is no regular file.");
        }

        return new OpenHandle(path, FileOperations.Do(path, () => File.OpenHandle(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete)), null, false, 0);
    }

    private static OpenHandle OpenForWriting(string path, OpenWrite write)
    {
        if (Directory.Exists(path))
        {
            throw new AgentException(ErrorCode.IsADirectory, $"{path} is a directory.", 21);
        }

        var parent = Path.GetDirectoryName(path) ?? "/";
        if (write.MakeParents)
        {
            FileOperations.Do(path, () => Directory.CreateDirectory(parent));
        }

        if (write.Append)
        {
            var existing = FileOperations.Do(path, () => File.OpenHandle(path, FileMode.OpenOrCreate, FileAccess.Write, FileShare.ReadWrite));
            return new OpenHandle(path, existing, null, true, RandomAccess.GetLength(existing));
        }

        // A link is written through, as a shell's redirection would.
        var target = File.Exists(path) ? File.ResolveLinkTarget(path, returnFinalTarget: true)?.FullName ?? path : path;
        var temporary = Path.Combine(Path.GetDirectoryName(target) ?? "/", ".sbx-" + Guid.NewGuid().ToString("N"));
        var mode = (UnixFileMode)(write.Permissions == 0 ? 0x1a4 : write.Permissions & 0xfff);
        var file = FileOperations.Do(path, () => File.OpenHandle(temporary, FileMode.CreateNew, FileAccess.Write));
        File.SetUnixFileMode(file, mode);
        return new OpenHandle(target, file, temporary, true, 0);
    }

    private OpenHandle Get(ulong id)
    {
        if (!_handles.TryGetValue(id, out var handle))
        {
            throw new AgentException(ErrorCode.NotFound, "There is no such file handle; it may have been closed for want of use.");
        }

        handle.LastUse = Environment.TickCount64;
        return handle;
    }

    private void Expire()
    {
        foreach (var (id, handle) in _handles)
        {
            if (Environment.TickCount64 - handle.LastUse > Unused.TotalMilliseconds)
            {
                Close(new CloseFile { Handle = id });
            }
        }
    }

    private sealed class OpenHandle(string path, SafeFileHandle file, string? temporary, bool writable, long offset)
    {
        public string Path { get; } = path;

        public SafeFileHandle File { get; } = file;

        public string? Temporary { get; } = temporary;

        public bool Writable { get; } = writable;

        public long Base { get; } = offset;

        public long LastUse { get; set; } = Environment.TickCount64;
    }
}
