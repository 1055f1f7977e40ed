using System.Buffers.Binary;
using System.Text;
using Sandbox.Guest.Agent.Channel;
using Sandbox.Guest.Agent.Executions;
using Sandbox.Guest.Agent.Platform;
using Sandbox.Guest.Protocol;

namespace Sandbox.Guest.Agent.Files;

/// <summary>Watches a directory with inotify, and everything below it if asked. New directories are watched as they appear, up to a limit.</summary>
internal sealed class DirectoryWatch
{
    private const int MaxDirectories = 8192;

    /// <summary>Events a second that are passed on; what comes above is counted as dropped.</summary>
    private const int MaxPerSecond = 2000;
    private const uint Interest = 0x2 | 0x4 | 0x40 | 0x80 | 0x100 | 0x200;
    private const uint NoFollow = 0x2000000 | 0x1000000;
    private const uint IsDirectory = 0x40000000;
    private const uint Overflow = 0x4000;
    private const uint Forgotten = 0x8000;

    private readonly ulong _stream;
    private readonly bool _recursive;
    private readonly Outbox _outbox;
    private readonly int _epoch;
    private readonly int _fd;
    private readonly Dictionary<int, string> _directories = [];
    private readonly int _root;
    private volatile bool _stopped;
    private bool _begun;
    private ulong _seq;
    private ulong _dropped;
    private long _second = Environment.TickCount64;
    private int _sent;

    public DirectoryWatch(ulong stream, string path, bool recursive, Outbox outbox, int epoch)
    {
        (_stream, _recursive, _outbox, _epoch) = (stream, recursive, outbox, epoch);
        if (!Directory.Exists(path))
        {
            throw new AgentException(ErrorCode.NotFound, $"{path} is not a directory.", Native.NoEntry);
        }

        _fd = Native.InotifyInit(Native.CloseOnExec);
        if (_fd < 0)
        {
            throw AgentException.FromErrno(Native.Errno, "Cannot watch");
        }

        Add(path);
        if (_directories.Count == 0)
        {
            var errno = Native.Errno;
            Native.Close(_fd);
            throw AgentException.FromErrno(errno, $"Cannot watch {path}");
        }

        _root = _directories.First(d => d.Value == path).Key;
    }

    /// <summary>Reports changes from now on, beginning with those since it was made.</summary>
    public void Begin()
    {
        if (!Interlocked.Exchange(ref _begun, true))
        {
            Threads.Start(Run, 256 * 1024, "watch");
        }
    }

    public void Stop()
    {
        _stopped = true;

        // A watch that never began has no thread to close it.
        Begin();
    }

    private void Add(string path)
    {
        if (_directories.Count >= MaxDirectories)
        {
            _dropped++;
            return;
        }

        // Links are not followed, except where the host itself named one.
        var id = Native.InotifyAdd(_fd, path, _directories.Count == 0 ? Interest : Interest | NoFollow);
        if (id < 0)
        {
            return;
        }

        _directories[id] = path;
        if (_recursive)
        {
            try
            {
                foreach (var below in Directory.GetDirectories(path).Where(d => new global::System.IO.FileInfo(d).LinkTarget is null))
                {
                    Add(below);
                }
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                // Gone again, or not ours to read.
            }
        }
    }

    /// <summary>A directory was moved away or removed: what happens below it is no longer ours to tell.</summary>
    private void Forget(string path)
    {
        foreach (var (id, _) in _directories.Where(d => d.Value == path || d.Value.StartsWith(path + "/", StringComparison.Ordinal)).ToList())
        {
            _ = Native.InotifyRemove(_fd, id);
            _directories.Remove(id);
        }
    }

    /// <summary>Watches a directory that appeared, and reports what was put into it before it was watched. Something may so be reported twice.</summary>
    private void Follow(string path)
    {
        Add(path);
        try
        {
            foreach (var entry in Directory.EnumerateFileSystemEntries(path, "*", new EnumerationOptions { RecurseSubdirectories = true, AttributesToSkip = FileAttributes.ReparsePoint }))
            {
                Report(0x100, entry);
            }
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // Gone again, or not ours to read.
        }
    }

    private void Run()
    {
        var buffer = new byte[64 * 1024];
        while (!_stopped)
        {
            if (!Descriptors.Wait(_fd, 200))
            {
                continue;
            }

            var n = Descriptors.Read(_fd, buffer);
            for (var at = 0; at + 16 <= n;)
            {
                var id = BinaryPrimitives.ReadInt32LittleEndian(buffer.AsSpan(at));
                var mask = BinaryPrimitives.ReadUInt32LittleEndian(buffer.AsSpan(at + 4));
                var length = (int)BinaryPrimitives.ReadUInt32LittleEndian(buffer.AsSpan(at + 12));
                var name = Encoding.UTF8.GetString(buffer.AsSpan(at + 16, length)).TrimEnd('\0');
                at += 16 + length;
                if ((mask & Forgotten) != 0)
                {
                    // The kernel has let go of a directory that was removed.
                    if (_directories.Remove(id, out var gone) && id == _root)
                    {
                        Report(0x200, gone);
                    }

                    continue;
                }

                if ((mask & Overflow) != 0 || !_directories.TryGetValue(id, out var directory))
                {
                    _dropped++;
                    continue;
                }

                var path = name.Length == 0 ? directory : directory.TrimEnd('/') + "/" + name;
                Report(mask, path);
                if (_recursive && name.Length > 0 && (mask & IsDirectory) != 0)
                {
                    // Whether or not the change was passed on: what comes later in it is.
                    if ((mask & (0x100 | 0x80)) != 0)
                    {
                        Follow(path);
                    }
                    else if ((mask & 0x40) != 0)
                    {
                        Forget(path);
                    }
                }
            }
        }

        Native.Close(_fd);
    }

    private void Report(uint mask, string path)
    {
        if (Environment.TickCount64 - _second >= 1000)
        {
            (_second, _sent) = (Environment.TickCount64, 0);
        }

        // A host takes a path that is too long for an attack.
        if (_sent >= MaxPerSecond || _outbox.IsCongested || Encoding.UTF8.GetByteCount(path) > ProtocolLimits.MaxPathBytes)
        {
            _dropped++;
            return;
        }

        // 0x80, a name that something was moved to, is as good as new; 0x40, the name it had, is gone.
        _sent++;
        var kind = (mask & (0x100 | 0x80)) != 0 ? WatchEvent.Types.Kind.Created
            : (mask & 0x200) != 0 ? WatchEvent.Types.Kind.Removed
            : (mask & 0x40) != 0 ? WatchEvent.Types.Kind.Renamed
            : (mask & 0x4) != 0 ? WatchEvent.Types.Kind.Attributes
            : WatchEvent.Types.Kind.Written;
        _outbox.Send(new Frame { Stream = _stream, WatchEvent = new WatchEvent { Seq = ++_seq, Kind = kind, Path = path, Dropped = _dropped } }, _epoch);
        _dropped = 0;
    }
}
