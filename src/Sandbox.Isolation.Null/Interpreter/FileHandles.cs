using Google.Protobuf;
using Sandbox.Guest.Protocol;
using FileInfo = Sandbox.Guest.Protocol.FileInfo;

namespace Sandbox.Isolation.Null.Interpreter;

/// <summary>Open files. They end with the channel, so a saved machine has none.</summary>
internal sealed class FileHandles(NullDisk disk)
{
    private readonly Dictionary<ulong, OpenHandle> _open = [];
    private ulong _last;

    public FileHandle Open(OpenFile request)
    {
        if (_open.Count >= ProtocolLimits.MaxFileHandles)
        {
            throw Faults.Of(ErrorCode.ResourceExhausted, $"{ProtocolLimits.MaxFileHandles} files are open, the most there may be");
        }

        var write = request.ModeCase == OpenFile.ModeOneofCase.Write ? request.Write : null;
        var content = new MemoryStream();
        FileInfo info;
        if (write is null)
        {
            content.Write(disk.Read(request.Path));
            info = disk.Stat(request.Path);
        }
        else
        {
            disk.CheckWritable(request.Path, write.MakeParents);
            info = new FileInfo { Path = request.Path };
        }

        _open[++_last] = new OpenHandle(request.Path, write, content);
        return new FileHandle { Handle = _last, Info = info };
    }

    public Chunk Read(ReadChunk request)
    {
        var file = Get(request.Handle);
        var buffer = new byte[Math.Min(request.Length, ProtocolLimits.MaxChunkBytes)];
        file.Content.Position = (long)Math.Min(request.Offset, long.MaxValue);
        var read = file.Content.Read(buffer);
        return new Chunk { Offset = request.Offset, Data = ByteString.CopyFrom(buffer, 0, read), Eof = file.Content.Position >= file.Content.Length };
    }

    public void Write(WriteChunk request)
    {
        var file = Get(request.Handle);
        if (file.Write is null || request.Offset > int.MaxValue)
        {
            throw Faults.Of(ErrorCode.InvalidArgument, "the file cannot be written there");
        }

        file.Content.Position = (long)request.Offset;
        file.Content.Write(request.Data.Span);
    }

    public void Close(CloseFile request)
    {
        var file = Get(request.Handle);
        _open.Remove(request.Handle);
        if (request.Commit && file.Write is { } write)
        {
            disk.CheckWritable(file.Path, write.MakeParents);
            disk.Write(file.Path, write.Append && Exists(file.Path) ? [.. disk.Read(file.Path), .. file.Content.ToArray()] : file.Content.ToArray());
        }
    }

    private bool Exists(string path)
    {
        try
        {
            disk.Stat(path);
            return true;
        }
        catch (Isolation.Guest.GuestException)
        {
            return false;
        }
    }

    private OpenHandle Get(ulong handle) => _open.TryGetValue(handle, out var file) ? file : throw Faults.Of(ErrorCode.NotFound, "no such file handle");

    private sealed record OpenHandle(string Path, OpenWrite? Write, MemoryStream Content);
}
