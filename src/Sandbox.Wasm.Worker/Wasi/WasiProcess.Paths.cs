using System.Buffers.Binary;
using System.Text;
using Sandbox.Wasm.Worker.Volume;

namespace Sandbox.Wasm.Worker.Wasi;

// Calls on paths, and waiting.
internal sealed partial class WasiProcess
{
    private const int CreateFlag = 1;
    private const int DirectoryFlag = 2;
    private const int ExclusiveFlag = 4;
    private const int TruncateFlag = 8;
    private const ulong ReadRight = 1 << 1;
    private const ulong WriteRights = (1 << 6) | (1 << 8) | (1 << 22);

    public int OpenPath(int fd, int lookup, int path, int length, int open, long rights, int flags, int result)
    {
        var start = Get<DirectoryDescriptor>(fd);
        var text = Text(path, length);
        var create = (open & CreateFlag) != 0;
        if (create && (open & DirectoryFlag) != 0)
        {
            return (int)WasiErrno.Invalid;
        }

        if (Special?.Invoke(start.Volume, text) is { } special)
        {
            Put(result, (uint)Add(special));
            return 0;
        }

        var (node, directory, name, made) = start.Volume.OpenFile(start.Node, text, (lookup & 1) != 0, create, (open & ExclusiveFlag) != 0, 0x1a4);
        Descriptor descriptor;
        if (node.Kind == NodeKind.Directory)
        {
            start.Volume.Close(node);
            descriptor = ((ulong)rights & (1 << 6)) != 0 && (open & DirectoryFlag) == 0 && (open & TruncateFlag) != 0
                ? throw new WasiException(WasiErrno.IsDirectory)
                : new DirectoryDescriptor(start.Volume, node, null);
        }
        else
        {
            var file = new FileDescriptor(start.Volume, node, directory, name, ((ulong)rights & ReadRight) != 0, ((ulong)rights & WriteRights) != 0 && node.Static is null);
            descriptor = file;
            try
            {
                if (node.Kind == NodeKind.Link)
                {
                    throw new WasiException(WasiErrno.Loop);
                }

                if ((open & DirectoryFlag) != 0)
                {
                    throw new WasiException(WasiErrno.NotDirectory);
                }

                if ((open & TruncateFlag) != 0 && !made)
                {
                    start.Volume.Resize(node, 0);
                    file.Written();
                }
            }
            catch
            {
                file.Dispose();
                throw;
            }
        }

        descriptor.Flags = (ushort)(flags & 0x1f);
        Put(result, (uint)Add(descriptor));
        return 0;
    }

    public int MakeDirectory(int fd, int path, int length)
    {
        var start = Get<DirectoryDescriptor>(fd);
        start.Volume.MakeDirectory(start.Node, Text(path, length), 0x1ed);
        return 0;
    }

    public int PathStatus(int fd, int lookup, int path, int length, int result)
    {
        var start = Get<DirectoryDescriptor>(fd);
        PutStatus(start.Volume.Find(start.Node, Text(path, length), (lookup & 1) != 0), result);
        return 0;
    }

    public int SetPathTimes(int fd, int lookup, int path, int length, long accessed, long modified, int flags)
    {
        var start = Get<DirectoryDescriptor>(fd);
        SetTimes(start.Volume, start.Volume.Find(start.Node, Text(path, length), (lookup & 1) != 0), accessed, modified, flags);
        return 0;
    }

    public int LinkPath(int oldFd, int lookup, int oldPath, int oldLength, int newFd, int newPath, int newLength)
    {
        var (from, to) = (Get<DirectoryDescriptor>(oldFd), Get<DirectoryDescriptor>(newFd));
        RequireSame(from, to);
        from.Volume.AddName(from.Volume.Find(from.Node, Text(oldPath, oldLength), (lookup & 1) != 0), to.Node, Text(newPath, newLength));
        return 0;
    }

    public int ReadLink(int fd, int path, int length, int buffer, int size, int result)
    {
        var start = Get<DirectoryDescriptor>(fd);
        var node = start.Volume.Find(start.Node, Text(path, length), follow: false);
        if (node.Kind != NodeKind.Link)
        {
            return (int)WasiErrno.Invalid;
        }

        var target = Encoding.UTF8.GetBytes(node.Target);
        var part = (int)Math.Min(target.Length, (uint)size);
        target.AsSpan(0, part).CopyTo(At(buffer, part));
        Put(result, (uint)part);
        return 0;
    }

    public int RemoveDirectory(int fd, int path, int length)
    {
        var start = Get<DirectoryDescriptor>(fd);
        start.Volume.Remove(start.Node, Text(path, length), directoryOnly: true, fileOnly: false, recursive: false);
        return 0;
    }

    public int Unlink(int fd, int path, int length)
    {
        var start = Get<DirectoryDescriptor>(fd);
        start.Volume.Remove(start.Node, Text(path, length), directoryOnly: false, fileOnly: true, recursive: false);
        return 0;
    }

    public int Rename(int oldFd, int oldPath, int oldLength, int newFd, int newPath, int newLength)
    {
        var (from, to) = (Get<DirectoryDescriptor>(oldFd), Get<DirectoryDescriptor>(newFd));
        RequireSame(from, to);
        from.Volume.Move(from.Node, Text(oldPath, oldLength), to.Node, Text(newPath, newLength), overwrite: true);
        return 0;
    }

    public int SymbolicLink(int oldPath, int oldLength, int fd, int newPath, int newLength)
    {
        var start = Get<DirectoryDescriptor>(fd);
        start.Volume.MakeLink(start.Node, Text(newPath, newLength), Text(oldPath, oldLength));
        return 0;
    }

    /// <summary>Waits for clocks and for standard input; everything else is always ready.</summary>
    public int Poll(int subscriptions, int events, int count, int result)
    {
        if (count is <= 0 or > 256)
        {
            return (int)WasiErrno.Invalid;
        }

        FlushOutputs();
        var began = Native();
        var deadline = ulong.MaxValue;
        IGuestInput? input = null;
        for (var i = 0; i < count; i++)
        {
            var subscription = At(subscriptions + (i * 48), 48);
            if (subscription[8] == 0)
            {
                deadline = Math.Min(deadline, DeadlineOf(subscription, began));
            }
            else if (subscription[8] == 1 && InputOf(BinaryPrimitives.ReadInt32LittleEndian(subscription[16..])) is { Ready: false } waiting)
            {
                input = waiting;
            }
            else
            {
                deadline = 0;
            }
        }

        // A clock alone, or input with or without one. Until it is time to the nanosecond: a guest that asked for an event and is given none takes what lies in its memory for one.
        for (var now = began; now < deadline && !Run.Interrupted && input is not { Ready: true }; now = Native())
        {
            var left = TimeSpan.FromMilliseconds(Math.Min(Math.Ceiling((deadline - now) / 1e6), 86_400_000));
            _ = input is null ? Run.Sleep(left) : Run.Wait(t => input.WaitUntilReady(left, t));
        }

        Run.Look();
        Put(result, (uint)PutEvents(subscriptions, events, count, began));
        return 0;

        static ulong Native() => Platform.Native.Monotonic();
    }

    private static void RequireSame(DirectoryDescriptor one, DirectoryDescriptor other)
    {
        if (!ReferenceEquals(one.Volume, other.Volume))
        {
            throw new WasiException(WasiErrno.ReadOnly);
        }
    }

    /// <summary>When a clock rings, on the monotonic clock.</summary>
    private static ulong DeadlineOf(ReadOnlySpan<byte> subscription, ulong now)
    {
        var (clock, timeout) = (BinaryPrimitives.ReadUInt32LittleEndian(subscription[16..]), BinaryPrimitives.ReadUInt64LittleEndian(subscription[24..]));
        if ((subscription[40] & 1) == 0)
        {
            return timeout > ulong.MaxValue - now ? ulong.MaxValue - 1 : now + timeout;
        }

        if (clock != 0)
        {
            return timeout;
        }

        var real = (ulong)(DateTimeOffset.UtcNow - DateTimeOffset.UnixEpoch).Ticks * 100;
        return timeout <= real ? now : now + (timeout - real);
    }

    private int PutEvents(int subscriptions, int events, int count, ulong began)
    {
        var written = 0;
        var now = Platform.Native.Monotonic();
        for (var i = 0; i < count; i++)
        {
            var subscription = At(subscriptions + (i * 48), 48).ToArray();
            var type = subscription[8];
            var error = WasiErrno.Success;
            if (type == 0)
            {
                // A wait may end early where it was interrupted: the guest is told what its clock would say, and asks again.
                if (DeadlineOf(subscription, began) > now && !Run.Interrupted)
                {
                    continue;
                }
            }
            else
            {
                var fd = BinaryPrimitives.ReadInt32LittleEndian(subscription.AsSpan(16));
                if (!_descriptors.ContainsKey(fd))
                {
                    error = WasiErrno.BadDescriptor;
                }
                else if (type == 1 && InputOf(fd) is { Ready: false })
                {
                    continue;
                }
            }

            var slot = At(events + (written++ * 32), 32);
            slot.Clear();
            subscription.AsSpan(0, 8).CopyTo(slot);
            BinaryPrimitives.WriteUInt16LittleEndian(slot[8..], (ushort)error);
            slot[10] = type;
            slot[16] = type == 0 ? (byte)0 : (byte)1;
        }

        return written;
    }

    private IGuestInput? InputOf(int fd) => _descriptors.GetValueOrDefault(fd) switch
    {
        InputDescriptor input => input.Input,
        ChannelDescriptor channel => channel.Input,
        _ => null,
    };
}
