using System.Buffers.Binary;
using System.Text;
using Sandbox.Guest.Agent.Platform;
using Sandbox.Guest.Protocol;

namespace Sandbox.Guest.Agent.Executions;

/// <summary>
/// Finds out which files appear or change under an execution's directory and in /tmp/artifacts while it runs: by inotify, so that nothing is read twice and
/// nothing of before counts. Bounded in directories and paths; what it loses it counts.
/// </summary>
internal sealed class ArtifactWatch : IDisposable
{
    /// <summary>Where files are found besides the working directory, once it is there.</summary>
    private const string Drop = "/tmp/artifacts";

    private const int MaxDirectories = 2000;
    private const int MaxPaths = 10_000;
    private const int DefaultLimit = 100;
    private const int MaxLimit = ProtocolLimits.MaxChangedFiles;

    /// <summary>Most bytes of paths in the event: it must fit a frame.</summary>
    private const int MaxNamedBytes = 256 * 1024;

    private const int NonBlocking = 0x800;
    private const uint Modified = 0x2;
    private const uint WrittenAndClosed = 0x8;
    private const uint MovedAway = 0x40;
    private const uint MovedHere = 0x80;
    private const uint Created = 0x100;
    private const uint Deleted = 0x200;
    private const uint Overflow = 0x4000;
    private const uint Forgotten = 0x8000;
    private const uint IsDirectory = 0x40000000;
    private const uint DirectoryNotLink = 0x1000000 | 0x2000000;

    /// <summary>Below / these are the system's, and /proc and /sys are no files at all.</summary>
    private static readonly HashSet<string> System = ["proc", "sys", "dev", "run", "usr", "lib", "lib32", "lib64", "bin", "sbin", "boot", "etc", "var", "lost+found"];

    /// <summary>Full of files that nobody made by hand. What begins with a dot is left out besides.</summary>
    private static readonly HashSet<string> Tools = ["node_modules", "__pycache__", "site-packages", "dist-packages"];

    private readonly int _limit;
    private readonly int _fd;
    private readonly int _ending;
    private readonly Thread _thread;
    private readonly Dictionary<int, string> _directories = [];
    private readonly HashSet<string> _changed = new(StringComparer.Ordinal);
    private readonly int _parentOfDrop = -1;
    private long _lost;
    private bool _overflowed;
    private bool _over;

    private ArtifactWatch(int fd, string directory, int limit)
    {
        (_fd, _limit) = (fd, limit);
        _ending = Native.EventFd(0, Native.CloseOnExec);
        Add(directory, old: true);
        if (Directory.Exists(Drop))
        {
            Add(Drop, old: true);
        }
        else
        {
            _parentOfDrop = Native.InotifyAdd(_fd, "/tmp", Created | MovedHere | DirectoryNotLink | 0x20000000);
        }

        try
        {
            _thread = Threads.Start(Run, 256 * 1024, "artifacts");
        }
        catch
        {
            Native.Close(_fd);
            Native.Close(_ending);
            throw;
        }
    }

    /// <summary>Begins to watch if the request asks for it; <see langword="null"/> if it does not, or the kernel has no more watches to give.</summary>
    public static ArtifactWatch? Begin(WatchArtifacts? request, string directory)
    {
        if (request is null)
        {
            return null;
        }

        var fd = Native.InotifyInit(Native.CloseOnExec | NonBlocking);
        return fd < 0 ? null : new ArtifactWatch(fd, directory, request.Limit == 0 ? DefaultLimit : (int)Math.Min(request.Limit, MaxLimit));
    }

    /// <summary>What has changed until now, or <see langword="null"/> if nothing has. It ends the watch.</summary>
    public ChangedFiles? Finish()
    {
        Stop();
        var found = new ChangedFiles();
        var more = _lost + (_overflowed && _lost == 0 ? 1 : 0);
        var bytes = 0;
        foreach (var path in _changed.Order(StringComparer.Ordinal))
        {
            if (Regular(path) is not { } file)
            {
                continue;
            }

            bytes += Encoding.UTF8.GetByteCount(path) + 32;
            if (found.Files.Count >= _limit || bytes > MaxNamedBytes)
            {
                more++;
            }
            else
            {
                found.Files.Add(file);
            }
        }

        found.More = (uint)Math.Min(more, int.MaxValue);
        return found.Files.Count == 0 && more == 0 ? null : found;
    }

    public void Dispose() => Stop();

    private void Stop()
    {
        if (!_over)
        {
            _over = true;
            Descriptors.Write(_ending, [1, 0, 0, 0, 0, 0, 0, 0]);
            _thread.Join();
            Native.Close(_fd);
            Native.Close(_ending);
        }
    }

    private static unsafe ChangedFile? Regular(string path)
    {
        const int AtCwd = -100;
        const int NoFollow = 0x100;
        StatX s;
        return Native.Stat(AtCwd, path, NoFollow, 0x7ff, &s) == 0 && (s.Mode & 0xf000) == 0x8000
            ? new ChangedFile { Path = path, Size = Math.Min(s.Size, long.MaxValue / 2), Blocks = Math.Min(s.Blocks, long.MaxValue / 2) }
            : null;
    }

    /// <summary>Watches a directory and those below it, the near ones first. What is in one that was not <paramref name="old"/> is new.</summary>
    private void Add(string root, bool old)
    {
        var waiting = new Queue<string>([root]);
        while (waiting.TryDequeue(out var path))
        {
            if (_directories.Count >= MaxDirectories)
            {
                return;
            }

            // Watched before it is read: what appears between the two is seen twice rather than never.
            var link = path == root && old ? 0x1000000 : DirectoryNotLink;
            var id = Native.InotifyAdd(_fd, path, Modified | WrittenAndClosed | MovedAway | MovedHere | Created | Deleted | link);
            if (id < 0)
            {
                continue;
            }

            _directories[id] = path;
            try
            {
                foreach (var entry in new DirectoryInfo(path).EnumerateFileSystemInfos())
                {
                    var attributes = entry.Attributes;
                    if ((attributes & FileAttributes.ReparsePoint) != 0)
                    {
                        continue;
                    }

                    if ((attributes & FileAttributes.Directory) == 0)
                    {
                        if (!old)
                        {
                            Note(entry.FullName, isNew: true);
                        }
                    }
                    else if (waiting.Count + _directories.Count < MaxDirectories && !IsIgnored(path, entry.Name))
                    {
                        waiting.Enqueue(entry.FullName);
                    }
                }
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                // Gone again.
            }
        }
    }

    private static bool IsIgnored(string parent, string name) => name.StartsWith('.') || Tools.Contains(name) || (parent == "/" && System.Contains(name));

    private void Note(string path, bool isNew)
    {
        if (_changed.Count < MaxPaths)
        {
            _changed.Add(path);
        }
        else if (isNew && !_changed.Contains(path))
        {
            _lost++;
        }
    }

    private void Run()
    {
        var buffer = new byte[64 * 1024];
        for (var ending = false; !ending;)
        {
            // The end is looked for first: what the queue holds then is all that the execution did.
            ending = Descriptors.WaitForEither(_fd, _ending);
            for (int n; (n = Descriptors.Read(_fd, buffer)) > 0;)
            {
                Take(buffer.AsSpan(0, n));
            }
        }
    }

    private void Take(ReadOnlySpan<byte> events)
    {
        while (events.Length >= 16)
        {
            var id = BinaryPrimitives.ReadInt32LittleEndian(events);
            var mask = BinaryPrimitives.ReadUInt32LittleEndian(events[4..]);
            var length = (int)BinaryPrimitives.ReadUInt32LittleEndian(events[12..]);
            var name = events.Slice(16, length);
            events = events[(16 + length)..];
            if ((mask & Overflow) != 0)
            {
                _overflowed = true;
            }
            else if ((mask & Forgotten) != 0)
            {
                _directories.Remove(id);
            }
            else if (name.IndexOf((byte)0) is > 0 and var end)
            {
                Take(id, mask, Encoding.UTF8.GetString(name[..end]));
            }
        }
    }

    private void Take(int id, uint mask, string name)
    {
        if (id == _parentOfDrop && (mask & (Created | MovedHere)) != 0 && name == Path.GetFileName(Drop) && (mask & IsDirectory) != 0)
        {
            Add(Drop, old: false);
        }

        if (!_directories.TryGetValue(id, out var directory))
        {
            return;
        }

        var path = directory == "/" ? "/" + name : directory + "/" + name;
        if ((mask & IsDirectory) != 0)
        {
            if ((mask & (Created | MovedHere)) != 0 && !IsIgnored(directory, name))
            {
                Add(path, old: false);
            }
        }
        else if ((mask & (Deleted | MovedAway)) != 0)
        {
            if (!_changed.Remove(path) && _lost > 0)
            {
                _lost--;
            }
        }
        else if (!name.StartsWith(".sbx-", StringComparison.Ordinal))
        {
            // Uploads under way bear such names.
            Note(path, (mask & (Created | MovedHere)) != 0);
        }
    }
}
