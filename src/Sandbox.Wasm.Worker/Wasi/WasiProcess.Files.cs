using System.Buffers.Binary;
using System.Text;
using Sandbox.Wasm.Worker.Volume;

namespace Sandbox.Wasm.Worker.Wasi;

// Calls on descriptors.
internal sealed partial class WasiProcess
{
    private const int MaxParts = 1024;
    private const ushort Append = 1;

    private delegate int Transfer(Span<byte> data);

    public int Close(int fd)
    {
        if (!_descriptors.Remove(fd, out var descriptor))
        {
            return (int)WasiErrno.BadDescriptor;
        }

        (descriptor as OutputDescriptor)?.Output.Flush(Run);
        descriptor.Dispose();
        return 0;
    }

    public int Renumber(int from, int to)
    {
        var descriptor = Get<Descriptor>(from);
        _ = Get<Descriptor>(to);
        if (from != to)
        {
            Close(to);
            _descriptors.Remove(from);
            _descriptors[to] = descriptor;
        }

        return 0;
    }

    public int Read(int fd, int parts, int count, int result)
    {
        var descriptor = Get<Descriptor>(fd);
        Put(result, (uint)Each(parts, count, stopEarly: true, descriptor switch
        {
            FileDescriptor file => data =>
            {
                var n = Readable(file).Volume.Read(file.Node, data, file.Position);
                file.Position += n;
                return n;
            }
            ,
            InputDescriptor input => data => input.Input.Read(Run, data),
            ChannelDescriptor channel => data => channel.Input.Read(Run, data),
            DirectoryDescriptor => throw new WasiException(WasiErrno.IsDirectory),
            _ => throw new WasiException(WasiErrno.BadDescriptor),
        }));
        return 0;
    }

    public int ReadAt(int fd, int parts, int count, long offset, int result)
    {
        var file = Readable(Get<FileDescriptor>(fd));
        Put(result, (uint)Each(parts, count, stopEarly: true, data =>
        {
            var n = file.Volume.Read(file.Node, data, offset);
            offset += n;
            return n;
        }));
        return 0;
    }

    public int Write(int fd, int parts, int count, int result)
    {
        var descriptor = Get<Descriptor>(fd);
        Put(result, (uint)Each(parts, count, stopEarly: false, descriptor switch
        {
            FileDescriptor file => data =>
            {
                var at = (file.Flags & Append) != 0 ? file.Node.Size : file.Position;
                Writable(file).Volume.Write(file.Node, data, at);
                file.Position = at + data.Length;
                return data.Length;
            }
            ,
            OutputDescriptor output => data =>
            {
                output.Output.Write(Run, data);
                return data.Length;
            }
            ,
            ChannelDescriptor channel => data =>
            {
                channel.Output.Write(Run, data);
                return data.Length;
            }
            ,
            DirectoryDescriptor => throw new WasiException(WasiErrno.IsDirectory),
            _ => throw new WasiException(WasiErrno.BadDescriptor),
        }));
        return 0;
    }

    public int WriteAt(int fd, int parts, int count, long offset, int result)
    {
        var file = Writable(Get<FileDescriptor>(fd));
        Put(result, (uint)Each(parts, count, stopEarly: false, data =>
        {
            file.Volume.Write(file.Node, data, offset);
            offset += data.Length;
            return data.Length;
        }));
        return 0;
    }

    public int Seek(int fd, long offset, int whence, int result)
    {
        if (Get<Descriptor>(fd) is not FileDescriptor file)
        {
            return (int)(Get<Descriptor>(fd) is DirectoryDescriptor ? WasiErrno.BadDescriptor : WasiErrno.SeekOnPipe);
        }

        var from = whence switch { 0 => 0, 1 => file.Position, 2 => file.Node.Size, _ => throw new WasiException(WasiErrno.Invalid) };
        var position = unchecked(from + offset);
        if (position < 0)
        {
            return (int)WasiErrno.Invalid;
        }

        file.Position = position;
        Put(result, (ulong)position);
        return 0;
    }

    public int Tell(int fd, int result)
    {
        Put(result, (ulong)Get<FileDescriptor>(fd).Position);
        return 0;
    }

    public int Sync(int fd)
    {
        // To the host's cache and not to its device: a guest must not be able to keep the device of all busy.
        (Get<Descriptor>(fd) as FileDescriptor)?.Volume.Commit(flush: false);
        return 0;
    }

    public int Allocate(int fd, long offset, long length)
    {
        var file = Writable(Get<FileDescriptor>(fd));
        if (offset < 0 || length <= 0)
        {
            return (int)WasiErrno.Invalid;
        }

        if (offset + length > file.Node.Size)
        {
            file.Volume.Resize(file.Node, unchecked(offset + length));
            file.Written();
        }

        return 0;
    }

    public int Resize(int fd, long size)
    {
        var file = Writable(Get<FileDescriptor>(fd));
        file.Volume.Resize(file.Node, size);
        return 0;
    }

    public int DescriptorStatus(int fd, int result)
    {
        var descriptor = Get<Descriptor>(fd);
        var status = At(result, 24);
        status.Clear();
        status[0] = descriptor.FileType;
        BinaryPrimitives.WriteUInt16LittleEndian(status[2..], descriptor.Flags);

        // Of a stream neither seek nor tell: a C library takes one without those for a terminal or a pipe.
        const ulong SeekAndTell = (1 << 2) | (1 << 5);
        var rights = descriptor is FileDescriptor or DirectoryDescriptor ? 0x3fff_ffffUL : 0x3fff_ffffUL & ~SeekAndTell;
        BinaryPrimitives.WriteUInt64LittleEndian(status[8..], rights);
        BinaryPrimitives.WriteUInt64LittleEndian(status[16..], rights);
        return 0;
    }

    public int SetFlags(int fd, int flags)
    {
        Get<Descriptor>(fd).Flags = (ushort)(flags & 0x1f);
        return 0;
    }

    public int FileStatus(int fd, int result)
    {
        switch (Get<Descriptor>(fd))
        {
            case FileDescriptor file:
                PutStatus(file.Node, result);
                break;
            case DirectoryDescriptor directory:
                PutStatus(directory.Node, result);
                break;
            case var other:
                var status = At(result, 64);
                status.Clear();
                status[16] = other.FileType;
                status[24] = 1;
                break;
        }

        return 0;
    }

    public int SetTimes(int fd, long accessed, long modified, int flags)
    {
        switch (Get<Descriptor>(fd))
        {
            case FileDescriptor file:
                SetTimes(file.Volume, file.Node, accessed, modified, flags);
                break;
            case DirectoryDescriptor directory:
                SetTimes(directory.Volume, directory.Node, accessed, modified, flags);
                break;
        }

        return 0;
    }

    public int PreopenedStatus(int fd, int result)
    {
        if (!_descriptors.TryGetValue(fd, out var descriptor) || descriptor is not DirectoryDescriptor { Preopened: { } name })
        {
            return (int)WasiErrno.BadDescriptor;
        }

        At(result, 8).Clear();
        Put(result + 4, (uint)Encoding.UTF8.GetByteCount(name));
        return 0;
    }

    public int PreopenedName(int fd, int address, int length)
    {
        if (Get<DirectoryDescriptor>(fd).Preopened is not { } name)
        {
            return (int)WasiErrno.BadDescriptor;
        }

        var bytes = Encoding.UTF8.GetBytes(name);
        if (bytes.Length > (uint)length)
        {
            return (int)WasiErrno.NameTooLong;
        }

        bytes.CopyTo(At(address, bytes.Length));
        return 0;
    }

    public int ReadDirectory(int fd, int buffer, int length, long cookie, int result)
    {
        var directory = Get<DirectoryDescriptor>(fd);
        if (cookie == 0 || directory.Listing is null)
        {
            directory.Listing = [(".", directory.Node), ("..", directory.Node.Parent ?? directory.Node), .. directory.Volume.List(directory.Node)];
        }

        var used = 0;
        Span<byte> entry = stackalloc byte[24 + 256];
        for (var index = cookie; index >= 0 && index < directory.Listing.Count && used < (uint)length; index++)
        {
            var (name, node) = directory.Listing[(int)index];
            var bytes = Encoding.UTF8.GetBytes(name, entry[24..]);
            BinaryPrimitives.WriteInt64LittleEndian(entry, index + 1);
            BinaryPrimitives.WriteUInt64LittleEndian(entry[8..], node.Id);
            BinaryPrimitives.WriteInt32LittleEndian(entry[16..], bytes);
            BinaryPrimitives.WriteInt32LittleEndian(entry[20..], TypeOf(node));

            // A last entry that does not fit is cut off: that says that there is more.
            var part = (int)Math.Min(24 + bytes, (uint)length - used);
            entry[..part].CopyTo(At(buffer + used, part));
            used += part;
        }

        Put(result, (uint)used);
        return 0;
    }

    private static byte TypeOf(Node node) => node.Kind switch { NodeKind.Directory => 3, NodeKind.Link => 7, _ => 4 };

    private static FileDescriptor Readable(FileDescriptor file) => file.Readable ? file : throw new WasiException(WasiErrno.BadDescriptor);

    private static FileDescriptor Writable(FileDescriptor file)
    {
        if (!file.Writable)
        {
            throw new WasiException(WasiErrno.BadDescriptor);
        }

        file.Written();
        return file;
    }

    private static void SetTimes(SessionVolume volume, Node node, long accessed, long modified, int flags)
    {
        var now = (DateTimeOffset.UtcNow - DateTimeOffset.UnixEpoch).Ticks * 100;
        volume.Describe(node, n =>
        {
            n.Accessed = (flags & 2) != 0 ? now : (flags & 1) != 0 ? accessed : n.Accessed;
            n.Modified = (flags & 8) != 0 ? now : (flags & 4) != 0 ? modified : n.Modified;
        });
    }

    private void PutStatus(Node node, int result)
    {
        var status = At(result, 64);
        status.Clear();
        BinaryPrimitives.WriteUInt64LittleEndian(status, 1);
        BinaryPrimitives.WriteUInt64LittleEndian(status[8..], node.Id);
        status[16] = TypeOf(node);
        BinaryPrimitives.WriteInt64LittleEndian(status[24..], Math.Max(1, node.Links));
        BinaryPrimitives.WriteInt64LittleEndian(status[32..], node.Size);
        BinaryPrimitives.WriteInt64LittleEndian(status[40..], node.Accessed);
        BinaryPrimitives.WriteInt64LittleEndian(status[48..], node.Modified);
        BinaryPrimitives.WriteInt64LittleEndian(status[56..], node.Changed);
    }

    /// <summary>Moves bytes through the guest's list of buffers. What was moved before an error counts; the error comes at the next call.</summary>
    private long Each(int parts, int count, bool stopEarly, Transfer transfer)
    {
        if ((uint)count > MaxParts)
        {
            throw new WasiException(WasiErrno.Invalid);
        }

        var total = 0L;
        for (var i = 0; i < count; i++)
        {
            var part = At(parts + (i * 8), 8);
            var (address, left) = (BinaryPrimitives.ReadInt32LittleEndian(part), (long)BinaryPrimitives.ReadUInt32LittleEndian(part[4..]));
            while (left > 0)
            {
                var length = (int)Math.Min(left, Stretch);
                int n;
                try
                {
                    n = transfer(At(address, length));
                }
                catch (Exception e) when (total > 0 && e is VolumeException or WasiException)
                {
                    return total;
                }

                total += n;
                left -= n;
                address += n;
                if (stopEarly && n < length)
                {
                    return total;
                }

                if (total + Stretch > int.MaxValue)
                {
                    return total;
                }

                if (length == Stretch)
                {
                    Run.Look();
                }
            }
        }

        return total;
    }
}
