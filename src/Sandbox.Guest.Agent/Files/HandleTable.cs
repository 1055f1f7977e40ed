using System.Collections.Concurrent;
using Google.Protobuf;
using Microsoft.Win32.SafeHandles;
using Sandbox.Guest.Agent.Platform;
using Sandbox.Guest.Protocol;

namespace Sandbox.Guest.Agent.Files;

/// <summary>Files that the host has open. A file for writing is written beside its place and moved there at the commit. Handles end with their connection.</summary>
internal sealed class HandleTable
{
    private const int ReadOnly = 0;
    private const int WriteOnly = 1;
    private const int CreateNew = 0x40 | 0x80;
    private const int CreateAppending = 0x40 | 0x400;
    private static readonly TimeSpan Unused = TimeSpan.FromMinutes(5);
    private readonly ConcurrentDictionary<ulong, OpenHandle> _handles = new();
    private ulong _next;

    /// <summary>Opens a file. Runs as the user.</summary>
    public FileHandle Open(OpenFile request, User user)
    {
        Expire();
        if (_handles.Count >= ProtocolLimits.MaxFileHandles)
        {
            throw new AgentException(ErrorCode.ResourceExhausted, $"{ProtocolLimits.MaxFileHandles} files are open already; close one.");
        }

        var path = user.Resolve(request.Path);
        var handle = request.Write is { } write ? OpenForWriting(path, write, user) : new OpenHandle(path, OpenRegular(path, ReadOnly, 0), user);
        var id = Interlocked.Increment(ref _next);
        _handles[id] = handle;
        return new FileHandle { Handle = id, Info = FileOperations.Stat(handle.Temporary ?? path, follow: true) };
    }

    public Chunk Read(ReadChunk request)
    {
        var handle = Get(request.Handle);
        if (request.Offset > long.MaxValue)
        {
            throw new AgentException(ErrorCode.InvalidArgument, "The offset is beyond any file.");
        }

        var buffer = new byte[Math.Min(request.Length, ProtocolLimits.MaxChunkBytes)];
        lock (handle)
        {
            var n = FileOperations.Do(handle.Path, () => RandomAccess.Read(handle.File, buffer, (long)request.Offset));
            return new Chunk { Offset = request.Offset, Data = ByteString.CopyFrom(buffer, 0, n), Eof = n == 0 };
        }
    }

    public void Write(WriteChunk request)
    {
        var handle = Get(request.Handle);
        if (!handle.Writable || request.Data.Length > ProtocolLimits.MaxChunkBytes)
        {
            throw new AgentException(ErrorCode.InvalidArgument, "The handle is not open for writing, or the chunk is too large.");
        }

        lock (handle)
        {
            if (request.Offset > long.MaxValue / 2 || (handle.Appends && request.Offset != handle.Written))
            {
                throw new AgentException(ErrorCode.InvalidArgument, "The offset is beyond any file, or not where the last chunk of an appending handle ended.");
            }

            FileOperations.Do(handle.Path, () =>
            {
                RandomAccess.Write(handle.File, request.Data.Span, (long)request.Offset);
                return 0;
            });
            handle.Written = Math.Max(handle.Written, request.Offset + (ulong)request.Data.Length);
        }
    }

    /// <summary>Closes a file and, if asked, moves what was written to its place, with the permissions of who opened it.</summary>
    public async Task<Response> CloseAsync(CloseFile request)
    {
        if (!_handles.TryRemove(request.Handle, out var handle))
        {
            throw new AgentException(ErrorCode.NotFound, "There is no such file handle; it may have been closed for want of use.");
        }

        var info = await UserThread.RunAsync(handle.User, () => Finish(handle, request.Commit)).ConfigureAwait(false);
        return info is null ? new Response { Empty = new Empty() } : new Response { File = info };
    }

    /// <summary>Gives up every handle: the connection that had opened them is gone.</summary>
    public int CloseAll()
    {
        foreach (var id in _handles.Keys)
        {
            if (_handles.TryRemove(id, out var handle))
            {
                _ = UserThread.RunAsync(handle.User, () => Finish(handle, commit: false));
            }
        }

        return 0;
    }

    private static Protocol.FileInfo? Finish(OpenHandle handle, bool commit)
    {
        lock (handle)
        {
            if (commit && handle.Temporary is not null)
            {
                // Whoever is told that a file is there finds it after a crash of the host's server, too, which ends this machine without a word.
                _ = Native.FileSync((int)handle.File.DangerousGetHandle());
            }

            handle.File.Dispose();
            if (handle.Temporary is not { } temporary)
            {
                return null;
            }

            var result = commit ? Native.Rename(temporary, handle.Path, 1) : -1;
            if (result < 0)
            {
                _ = Native.Remove(temporary, 0);
            }
            else if (Path.GetDirectoryName(handle.Path) is { } directory && Native.Open(directory, Native.CloseOnExec, 0) is >= 0 and var entry)
            {
                // Its name as well. A directory that its user may write but not read is left to the kernel, which does it within seconds.
                _ = Native.FileSync(entry);
                _ = Native.Close(entry);
            }

            return !commit ? null : result == 0 ? FileOperations.Stat(handle.Path, follow: true) : throw AgentException.FromErrno(-result, $"Cannot put {handle.Path} into its place");
        }
    }

    private static SafeFileHandle OpenRegular(string path, int flags, uint mode)
    {
        var fd = Native.OpenRegular(path, flags, mode);
        return fd >= 0 ? new SafeFileHandle(fd, ownsHandle: true)
            : fd == -22 ? throw new AgentException(ErrorCode.InvalidArgument, $"{path} is no regular file.", 22)
            : throw AgentException.FromErrno(-fd, $"Cannot open {path}");
    }

    private static OpenHandle OpenForWriting(string path, OpenWrite write, User user)
    {
        Labels.Check(write);
        if (write.MakeParents)
        {
            FileOperations.MakeParents(path);
        }

        var mode = write.Permissions == 0 ? 0x1a4 : write.Permissions & 0xfff;
        if (write.Append)
        {
            return new OpenHandle(path, OpenRegular(path, WriteOnly | CreateAppending, mode), user) { Writable = true, Appends = true };
        }

        // A link is written through, as a shell's redirection would.
        var target = FileOperations.Do(path, () => FinalTarget(path)) ?? path;
        if (Exists(target))
        {
            // Only who may write the file may replace it. Its permissions stay, unless others are asked for.
            OpenRegular(target, WriteOnly, 0).Dispose();
            mode = write.Permissions == 0 ? FileOperations.Stat(target, follow: true).Mode : mode;
        }

        var temporary = Path.Combine(Path.GetDirectoryName(target) ?? "/", ".sbx-" + Guid.NewGuid().ToString("N"));
        var file = OpenRegular(temporary, WriteOnly | CreateNew, 0x180);
        FileOperations.Do(path, () =>
        {
            File.SetUnixFileMode(file, (UnixFileMode)mode);
            return 0;
        });
        try
        {
            Labels.Write(file, path, write.Metadata);
        }
        catch
        {
            file.Dispose();
            _ = Native.Remove(temporary, 0);
            throw;
        }

        return new OpenHandle(target, file, user) { Writable = true, Temporary = temporary };
    }

    private static string? FinalTarget(string path)
    {
        try
        {
            return File.ResolveLinkTarget(path, returnFinalTarget: true)?.FullName;
        }
        catch (Exception e) when (e is FileNotFoundException or DirectoryNotFoundException)
        {
            // Nothing there yet: then it is no link.
            return null;
        }
    }

    private static bool Exists(string path)
    {
        try
        {
            FileOperations.Stat(path, follow: true);
            return true;
        }
        catch (AgentException e) when (e.Code == ErrorCode.NotFound)
        {
            return false;
        }
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
            if (Environment.TickCount64 - handle.LastUse > Unused.TotalMilliseconds && _handles.TryRemove(id, out var unused))
            {
                _ = UserThread.RunAsync(unused.User, () => Finish(unused, commit: false));
            }
        }
    }

    private sealed class OpenHandle(string path, SafeFileHandle file, User user)
    {
        public string Path { get; } = path;

        public SafeFileHandle File { get; } = file;

        public User User { get; } = user;

        public string? Temporary { get; init; }

        public bool Writable { get; init; }

        public bool Appends { get; init; }

        public ulong Written { get; set; }

        public long LastUse { get; set; } = Environment.TickCount64;
    }
}
