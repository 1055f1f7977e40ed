using System.Runtime.InteropServices;
using System.Text;
using Sandbox.Guest.Agent.Platform;
using Sandbox.Guest.Protocol;
using FileInfo = Sandbox.Guest.Protocol.FileInfo;

namespace Sandbox.Guest.Agent.Files;

/// <summary>Files by path. Runs on a <see cref="UserThread"/>; every path is absolute by now.</summary>
internal static unsafe class FileOperations
{
    private const int AtCwd = -100;
    private const int NoFollow = 0x100;
    private const int MaxNameBytes = 255;
    private const int DirectoryExists = 17;

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
            Owner = Clip(User.NameOf(s.Uid), MaxNameBytes),
            Group = Clip(User.GroupNameOf(s.Gid), MaxNameBytes),
            ModifiedUnixNanos = (s.ModifySeconds * 1_000_000_000) + s.ModifyNanoseconds,
            Blocks = s.Blocks,
        };
        if (info.Type == FileType.Symlink)
        {
            // A target that is not UTF-8 grows when its bytes are replaced, and a host takes a longer one for an attack.
            info.SymlinkTarget = Clip(Try(() => new global::System.IO.FileInfo(path).LinkTarget) ?? "", ProtocolLimits.MaxPathBytes);
        }
        else if (info.Type is FileType.Regular or FileType.Directory)
        {
            Labels.Read(path, follow, info.Metadata);
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

        var walk = new DirectoryWalk(request.After, limit + 1);
        walk.Visit(path, (int)Math.Clamp(request.Depth, 1, 32));
        var list = new FileList();
        var size = 0;
        foreach (var entry in walk.Found)
        {
            FileInfo found;
            try
            {
                found = Stat(entry, follow: false);
            }
            catch (AgentException)
            {
                // Gone since the directory was read.
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

    public static FileInfo MakeDirectory(string path, bool parents, uint mode)
    {
        MakeOne(path.Length > 1 ? path.TrimEnd('/') : path, parents, mode == 0 ? 0x1ed : mode & 0xfff);
        return Stat(path, follow: true);
    }

    public static FileInfo Move(string from, string to, bool overwrite)
    {
        var result = Native.Rename(from, to, overwrite ? 1 : 0);
        return result == 0 ? Stat(to, follow: false) : throw AgentException.FromErrno(-result, $"Cannot move {from} to {to}");
    }

    public static void Remove(string path, bool recursive)
    {
        var result = Native.Remove(path, recursive ? 1 : 0);
        if (result < 0)
        {
            throw AgentException.FromErrno(-result, $"Cannot remove {path}");
        }
    }

    /// <summary>At most so many bytes of UTF-8, cut on a character's boundary.</summary>
    public static string Clip(string text, int maxBytes)
    {
        if (Encoding.UTF8.GetByteCount(text) <= maxBytes)
        {
            return text;
        }

        var bytes = 0;
        var length = 0;
        foreach (var rune in text.EnumerateRunes())
        {
            bytes += rune.Utf8SequenceLength;
            if (bytes > maxBytes)
            {
                break;
            }

            length += rune.Utf16SequenceLength;
        }

        return text[..length];
    }

    /// <summary>Makes the directories above a path that are missing.</summary>
    public static void MakeParents(string path)
    {
        var parent = Path.GetDirectoryName(path.TrimEnd('/'));
        if (!string.IsNullOrEmpty(parent) && !Directory.Exists(parent))
        {
            MakeOne(parent, parents: true, 0x1ed);
        }
    }

    private static void MakeOne(string path, bool parents, uint mode)
    {
        var result = Native.MakeDirectory(path, mode);
        if (result == -Native.NoEntry && parents && path.Length > 1)
        {
            MakeParents(path);
            result = Native.MakeDirectory(path, mode);
        }

        if (result < 0 && !(result == -DirectoryExists && parents && Directory.Exists(path)))
        {
            throw AgentException.FromErrno(-result, $"Cannot make directory {path}");
        }
    }

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
