using System.Runtime.InteropServices;
using Sandbox.Guest.Agent.Platform;
using Sandbox.Guest.Protocol;
using FileInfo = Sandbox.Guest.Protocol.FileInfo;

namespace Sandbox.Guest.Agent.Files;

/// <summary>Files by path. Runs on a <see cref="UserThread"/>; every path is absolute by now.</summary>
internal static unsafe class FileOperations
{
    private const int AtCwd = -100;
    private const int NoFollow = 0x100;

    public static FileInfo Stat(string path, bool follow)
    {
        StatX s;
        if (Native.Stat(AtCwd, path, follow ? 0 : NoFollow, 0x7ff, &s) != 0)
        {
            throw AgentException.FromErrno(Native.Errno, path);
        }

        var info = new FileInfo
        {
            Path = path,
            Type = (s.Mode & 0xf000) switch { 0x8000 => FileType.Regular, 0x4000 => FileType.Directory, 0xa000 => FileType.Symlink, _ => FileType.Other },
            Size = s.Size,
            Mode = (uint)(s.Mode & 0xfff),
            Uid = s.Uid,
            Gid = s.Gid,
            Owner = User.NameOf(s.Uid),
            Group = User.GroupNameOf(s.Gid),
            ModifiedUnixNanos = (s.ModifySeconds * 1_000_000_000) + s.ModifyNanoseconds,
            Blocks = s.Blocks,
        };
        if (info.Type == FileType.Symlink)
        {
            info.SymlinkTarget = Try(() => new global::System.IO.FileInfo(path).LinkTarget) ?? "";
        }

        return info;
    }

    /// <summary>Entries below a directory in byte order of their paths, a page at a time. What cannot be read is left out.</summary>
    public static FileList List(ListDirectory request, string path)
    {
        var limit = request.Limit == 0 ? ProtocolLimits.MaxListEntries : (int)Math.Min(request.Limit, ProtocolLimits.MaxListEntries);
        var info = Stat(path, follow: true);
        if (info.Type != FileType.Directory)
        {
            throw new AgentException(ErrorCode.NotADirectory, $"{path} is not a directory.");
        }

        var list = new FileList();
        var size = 0;
        foreach (var entry in Walk(path, (int)Math.Clamp(request.Depth, 1, 32), top: true))
        {
            if (request.After.Length > 0 && ComparePaths(entry, request.After) <= 0)
            {
                continue;
            }

            FileInfo found;
            try
            {
                found = Stat(entry, follow: false);
            }
            catch (AgentException)
            {
                // Gone since the directory was read, or a name that is not UTF-8.
                continue;
            }

            // A page must fit a frame, however long the names are.
            size += found.CalculateSize() + 8;
            if (list.Entries.Count == limit || size > ProtocolLimits.MaxFrameBytes - 4096)
            {
                list.More = true;
                break;
            }

            list.Entries.Add(found);
        }

        return list;
    }

    public static FileInfo MakeDirectory(string path, bool parents)
    {
        Do(path, () =>
        {
            if (!parents && !Directory.Exists(Path.GetDirectoryName(path)))
            {
                throw new AgentException(ErrorCode.NotFound, $"The parent directory of {path} does not exist.", Native.NoEntry);
            }

            return Directory.CreateDirectory(path);
        });
        return Stat(path, follow: true);
    }

    public static FileInfo Move(string from, string to, bool overwrite)
    {
        Do(from, () =>
        {
            if (Stat(from, follow: false).Type == FileType.Directory)
            {
                Directory.Move(from, to);
            }
            else
            {
                File.Move(from, to, overwrite);
            }

            return 0;
        });
        return Stat(to, follow: false);
    }

    public static void Remove(string path, bool recursive) => Do(path, () =>
    {
        if (Stat(path, follow: false).Type != FileType.Directory)
        {
            File.Delete(path);
        }
        else if (!recursive && Directory.EnumerateFileSystemEntries(path).Any())
        {
            throw new AgentException(ErrorCode.NotEmpty, $"{path} is not empty; say recursive to remove what is in it too.", 39);
        }
        else
        {
            Directory.Delete(path, recursive);
        }

        return 0;
    });

    /// <summary>Does file work of .NET's and turns its exceptions into our errors.</summary>
    public static T Do<T>(string path, Func<T> work)
    {
        try
        {
            return work();
        }
        catch (UnauthorizedAccessException e)
        {
            throw new AgentException(ErrorCode.PermissionDenied, $"{path}: {e.Message}", Native.AccessDenied);
        }
        catch (Exception e) when (e is FileNotFoundException or DirectoryNotFoundException)
        {
            throw new AgentException(ErrorCode.NotFound, $"{path}: No such file or directory", Native.NoEntry);
        }
        catch (PathTooLongException)
        {
            throw new AgentException(ErrorCode.InvalidArgument, $"{path}: the name is too long", 36);
        }
        catch (IOException e)
        {
            // .NET on Unix puts errno into the HResult of the exceptions it has no type for.
            var errno = e.HResult is > 0 and < 200 ? e.HResult : Marshal.GetLastPInvokeError();
            throw e.Message.Contains("already exists", StringComparison.Ordinal)
                ? new AgentException(ErrorCode.AlreadyExists, $"{path}: {e.Message}", 17)
                : e.Message.Contains("No space left", StringComparison.Ordinal)
                    ? new AgentException(ErrorCode.DiskFull, $"{path}: No space left on device", Native.NoSpace)
                    : AgentException.FromErrno(errno, $"{path}: {e.Message}");
        }
    }

    /// <summary>The order in which <see cref="Walk"/> comes upon paths: a directory's contents stand right behind it, before its longer-named siblings.</summary>
    private static int ComparePaths(string left, string right) => string.CompareOrdinal(left.Replace('/', '\0'), right.Replace('/', '\0'));

    private static IEnumerable<string> Walk(string directory, int depth, bool top)
    {
        string[] entries;
        try
        {
            entries = Directory.GetFileSystemEntries(directory);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            if (top)
            {
                throw new AgentException(ErrorCode.PermissionDenied, $"{directory}: {e.Message}", Native.AccessDenied);
            }

            yield break;
        }

        Array.Sort(entries, string.CompareOrdinal);
        foreach (var entry in entries)
        {
            yield return entry;
            if (depth > 1 && Directory.Exists(entry) && new global::System.IO.FileInfo(entry).LinkTarget is null)
            {
                foreach (var below in Walk(entry, depth - 1, top: false))
                {
                    yield return below;
                }
            }
        }
    }

    private static T? Try<T>(Func<T?> get)
        where T : class
    {
        try
        {
            return get();
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return null;
        }
    }
}
