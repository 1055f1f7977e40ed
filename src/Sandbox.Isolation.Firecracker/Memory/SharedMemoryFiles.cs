using System.Security.Cryptography;
using System.Text;

namespace Sandbox.Isolation.Firecracker.Memory;

/// <summary>
/// Memories of saved machines from which several are restored: one file for each name, which their processes map privately and so share the page cache of. It is there as long as one of them holds it.
/// </summary>
internal sealed class SharedMemoryFiles(string directory)
{
    private readonly Dictionary<string, Entry> _entries = new(StringComparer.Ordinal);
    private readonly Lock _lock = new();

    /// <summary>Prefix of the files' names. No microVM's directory can be called so.</summary>
    public const string Prefix = "shared_";

    /// <summary>A hold on the memory with a name, which <paramref name="write"/> writes if it is not there. Others who want it meanwhile wait; if writing fails, the next one tries.</summary>
    public async Task<MemoryFile> RentAsync(string name, Func<string, Task<long[]>> write, CancellationToken cancellationToken)
    {
        Entry entry;
        lock (_lock)
        {
            if (!_entries.TryGetValue(name, out entry!))
            {
                entry = new Entry(Path.Combine(directory, Prefix + Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(name)).AsSpan(0, 12))));
                _entries.Add(name, entry);
            }

            entry.Holds++;
        }

        var released = 0;
        void Release()
        {
            if (Interlocked.Exchange(ref released, 1) == 0)
            {
                GiveUp(name, entry);
            }
        }

        try
        {
            await entry.Turn.WaitAsync(cancellationToken);
            try
            {
                if (entry.Replaced is null)
                {
                    Directory.CreateDirectory(directory, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);

                    // What a predecessor that was killed has left.
                    File.Delete(entry.Path);
                    entry.Replaced = await write(entry.Path);
                }
            }
            finally
            {
                entry.Turn.Release();
            }

            return MemoryFile.Open(entry.Path, entry.Replaced, Release);
        }
        catch
        {
            Release();
            throw;
        }
    }

    /// <summary>Removes files that nobody of this process holds: those of a predecessor that was killed. Returns their names.</summary>
    public IReadOnlyList<string> RemoveStrangers()
    {
        lock (_lock)
        {
            var held = _entries.Values.Select(e => e.Path).ToHashSet(StringComparer.Ordinal);
            var strangers = Directory.Exists(directory) ? Directory.GetFiles(directory, Prefix + "*").Where(f => !held.Contains(f)).ToList() : [];
            strangers.ForEach(File.Delete);
            return [.. strangers.Select(f => Path.GetFileName(f)!)];
        }
    }

    private void GiveUp(string name, Entry entry)
    {
        lock (_lock)
        {
            if (--entry.Holds == 0)
            {
                _entries.Remove(name);
                File.Delete(entry.Path);
            }
        }
    }

    private sealed class Entry(string path)
    {
        public string Path { get; } = path;

        public SemaphoreSlim Turn { get; } = new(1, 1);

        public int Holds { get; set; }

        public long[]? Replaced { get; set; }
    }
}
