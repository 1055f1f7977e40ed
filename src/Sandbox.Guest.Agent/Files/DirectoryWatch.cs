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
    private volatile bool _stopped;
    private bool _begun;
    private ulong _seq;
    private ulong _dropped;

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

    }

    /// <summary>Reports changes from now on, beginning with those since it was made.</summary>
    public void Begin()
    {
        if (!Interlocked.Exchange(ref _begun, true))
        {
            new Thread(Run, 256 * 1024) { IsBackground = true, Name = "watch" }.Start();
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

    private void Run()
    {
        var buffer = new byte[64 * 1024];
        var second = Environment.TickCount64;
        var sent = 0;
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
                if (Environment.TickCount64 - second >= 1000)
                {
                    (second, sent) = (Environment.TickCount64, 0);
                }

                if ((mask & Forgotten) != 0)
                {
                    // The kernel has let go of a directory that was removed.
                    _directories.Remove(id);
                    continue;
                }

                if ((mask & Overflow) != 0 || !_directories.TryGetValue(id, out var directory) || sent >= MaxPerSecond || _outbox.IsCongested)
                {
                    _dropped++;
                    continue;
                }

                sent++;
                Report(mask, name.Length == 0 ? directory : directory.TrimEnd('/') + "/" + name);
            }
        }

        Native.Close(_fd);
    }

    private void Report(uint mask, string path)
    {
        if (_recursive && (mask & IsDirectory) != 0 && (mask & (0x100 | 0x80)) != 0)
        {
            Add(path);
        }

        if (Encoding.UTF8.GetByteCount(path) > ProtocolLimits.MaxPathBytes)
        {
            // A host takes such a path for an attack.
            _dropped++;
            return;
        }

        var kind = (mask & 0x100) != 0 ? WatchEvent.Types.Kind.Created
            : (mask & 0x200) != 0 ? WatchEvent.Types.Kind.Removed
            : (mask & (0x40 | 0x80)) != 0 ? WatchEvent.Types.Kind.Renamed
            : (mask & 0x4) != 0 ? WatchEvent.Types.Kind.Attributes
            : WatchEvent.Types.Kind.Written;
        _outbox.Send(new Frame { Stream = _stream, WatchEvent = new WatchEvent { Seq = ++_seq, Kind = kind, Path = path, Dropped = _dropped } }, _epoch);
        _dropped = 0;
    }
}
