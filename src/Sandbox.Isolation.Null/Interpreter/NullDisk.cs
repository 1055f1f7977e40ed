using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using Sandbox.Guest.Protocol;
using Sandbox.Isolation.Null.State;
using FileInfo = Sandbox.Guest.Protocol.FileInfo;

namespace Sandbox.Isolation.Null.Interpreter;

/// <summary>
/// A machine's files. They are in the disk's file, written whole before a change is answered, so that they outlive the machine as those of a real disk do. A disk that nothing was written to is an
/// empty file.
/// </summary>
internal sealed class NullDisk
{
    public const string Home = "/home/user";

    private readonly TimeProvider _clock;
    private readonly SortedDictionary<string, DiskEntry> _entries = new(ByBytes.Instance);

    private NullDisk(string path, TimeProvider clock) => (HostPath, _clock) = (path, clock);

    /// <summary>The disk's file on the host. Moves when a machine of the pool is claimed.</summary>
    public string HostPath { get; set; }

    /// <summary>Opens a disk, or makes it.</summary>
    public static NullDisk Open(string path, TimeProvider clock)
    {
        var disk = new NullDisk(path, clock);
        using var file = File.OpenHandle(path, FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.ReadWrite | FileShare.Delete);
        if (RandomAccess.GetLength(file) > 0)
        {
            foreach (var entry in JsonSerializer.Deserialize(File.ReadAllBytes(path), StateJson.Default.ListDiskEntry)!)
            {
                disk._entries[entry.Path] = entry;
            }
        }

        return disk;
    }

    /// <summary>Writes a disk that a saved machine had.</summary>
    public static void Restore(string path, ReadOnlySpan<byte> content)
    {
        // Beside it and renamed: a kill leaves the old disk or the new one.
        File.WriteAllBytes(path + ".partial", content);
        File.Move(path + ".partial", path, overwrite: true);
    }

    public static string Hash(ReadOnlySpan<byte> content) => Convert.ToHexStringLower(SHA256.HashData(content));

    /// <summary>The disk's content as <see cref="Restore"/> takes it.</summary>
    public byte[] Save() => File.ReadAllBytes(HostPath);

    public FileInfo Stat(string path)
    {
        var full = Full(path);
        return Find(full) is { } entry ? Describe(entry) : throw Faults.NoFile(full);
    }

    public byte[] Read(string path)
    {
        var full = Full(path);
        return (Find(full) ?? throw Faults.NoFile(full)).Content ?? throw Faults.Of(ErrorCode.IsADirectory, $"{full} is a directory");
    }

    public void CheckWritable(string path, bool makeParents)
    {
        var full = Full(path);
        if (Find(full) is { Content: null })
        {
            throw Faults.Of(ErrorCode.IsADirectory, $"{full} is a directory");
        }

        CheckParent(full, makeParents);
    }

    public void Write(string path, byte[] content)
    {
        Put(Full(path), content);
        Store();
    }

    public FileInfo MakeDirectory(string path, bool parents)
    {
        var full = Full(path);
        if (Find(full) is { } there)
        {
            return parents && there.Content is null ? Describe(there) : throw Faults.Of(ErrorCode.AlreadyExists, $"{full} exists");
        }

        CheckParent(full, parents);
        Put(full, null);
        Store();
        return Stat(full);
    }

    public FileInfo Move(string from, string to, bool overwrite)
    {
        var (source, target) = (Full(from), Full(to));
        var entry = Find(source) ?? throw Faults.NoFile(source);
        if (Find(target) is { } there && (!overwrite || there.Content is null))
        {
            throw Faults.Of(ErrorCode.AlreadyExists, $"{target} exists");
        }

        CheckParent(target, makeParents: false);
        foreach (var moved in Below(source).Append(entry).ToList())
        {
            _entries.Remove(moved.Path);
            var path = target + moved.Path[source.Length..];
            _entries[path] = moved with { Path = path };
        }

        Store();
        return Stat(target);
    }

    public void Remove(string path, bool recursive)
    {
        var full = Full(path);
        if (Find(full) is null)
        {
            throw Faults.NoFile(full);
        }

        var below = Below(full).ToList();
        if (below.Count > 0 && !recursive)
        {
            throw Faults.Of(ErrorCode.NotEmpty, $"{full} is not empty");
        }

        foreach (var entry in below)
        {
            _entries.Remove(entry.Path);
        }

        _entries.Remove(full);
        Store();
    }

    public FileList List(string path, uint depth, uint limit, string after)
    {
        var full = Full(path);
        if (Find(full) is not { Content: null })
        {
            throw Find(full) is null ? Faults.NoFile(full) : Faults.Of(ErrorCode.NotADirectory, $"{full} is no directory");
        }

        var most = (int)Math.Clamp(limit, 1, ProtocolLimits.MaxListEntries);
        var found = Below(full)
            .Where(e => e.Path.AsSpan(full.Length + 1).Count('/') < Math.Max(1, depth) && (after.Length == 0 || ByBytes.Instance.Compare(e.Path, after) > 0))
            .Take(most + 1).ToList();
        var list = new FileList { More = found.Count > most };
        list.Entries.AddRange(found.Take(most).Select(Describe));
        return list;
    }

    private static string Full(string path) => path.Length == 0 || path.Contains('\0', StringComparison.Ordinal)
        ? throw Faults.Of(ErrorCode.InvalidArgument, "a path is missing")
        : Path.TrimEndingDirectorySeparator(Path.GetFullPath(path, Home));

    private static bool IsRoot(string path) => path is "/" or "/home" or Home or "/tmp";

    private DiskEntry? Find(string path) => _entries.GetValueOrDefault(path) ?? (IsRoot(path) ? new DiskEntry(path, null, 0) : null);

    private IEnumerable<DiskEntry> Below(string directory)
    {
        var prefix = directory == "/" ? "/" : directory + "/";
        return _entries.Values.Where(e => e.Path.StartsWith(prefix, StringComparison.Ordinal) && e.Path.Length > prefix.Length);
    }

    private void CheckParent(string full, bool makeParents)
    {
        for (var parent = Path.GetDirectoryName(full); parent is not null; parent = Path.GetDirectoryName(parent))
        {
            switch (Find(parent))
            {
                case { Content: null }:
                    return;
                case null when makeParents:
                    continue;
                case null:
                    throw Faults.NoFile(parent);
                default:
                    throw Faults.Of(ErrorCode.NotADirectory, $"{parent} is no directory");
            }
        }
    }

    private void Put(string full, byte[]? content)
    {
        var now = (_clock.GetUtcNow() - DateTimeOffset.UnixEpoch).Ticks * 100;
        for (var parent = Path.GetDirectoryName(full); parent is not null && Find(parent) is null; parent = Path.GetDirectoryName(parent))
        {
            _entries[parent] = new DiskEntry(parent, null, now);
        }

        _entries[full] = new DiskEntry(full, content, now);
    }

    private void Store() => Restore(HostPath, JsonSerializer.SerializeToUtf8Bytes([.. _entries.Values], StateJson.Default.ListDiskEntry));

    private static FileInfo Describe(DiskEntry entry) => new()
    {
        Path = entry.Path,
        Type = entry.Content is null ? FileType.Directory : FileType.Regular,
        Size = (ulong)(entry.Content?.Length ?? 0),
        Mode = entry.Content is null ? 0x1EDu : 0x1A4u,
        Owner = "user",
        Group = "user",
        ModifiedUnixNanos = entry.Modified,
    };

    /// <summary>The order of listings: bytes of whole paths.</summary>
    private sealed class ByBytes : IComparer<string>
    {
        public static readonly ByBytes Instance = new();

        public int Compare(string? x, string? y) => Encoding.UTF8.GetBytes(x!).AsSpan().SequenceCompareTo(Encoding.UTF8.GetBytes(y!));
    }
}
