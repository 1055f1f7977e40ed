using Microsoft.Win32.SafeHandles;

namespace Sandbox.Output.Segments;

/// <summary>Open files, the least recently used of which are closed: a host may hold far more logs than file descriptors.</summary>
internal sealed class FileCache(int capacity) : IDisposable
{
    private readonly Lock _lock = new();
    private readonly Dictionary<string, Entry> _entries = new(StringComparer.Ordinal);
    private readonly LinkedList<Entry> _idle = new();

    /// <summary>Files open at the moment.</summary>
    public int Count
    {
        get
        {
            lock (_lock)
            {
                return _entries.Count;
            }
        }
    }

    /// <summary>Opens a file, or shares it if it is open. Dispose the lease soon.</summary>
    public Lease Rent(string path, FileMode mode)
    {
        lock (_lock)
        {
            if (!_entries.TryGetValue(path, out var entry))
            {
                entry = new Entry(path, File.OpenHandle(path, mode, FileAccess.ReadWrite, FileShare.ReadWrite | FileShare.Delete));
                _entries.Add(path, entry);
            }
            else if (entry.Idle is not null)
            {
                _idle.Remove(entry.Idle);
                entry.Idle = null;
            }

            entry.Users++;
            return new Lease(this, entry);
        }
    }

    /// <summary>Closes the files under a directory, those in use as soon as they are not.</summary>
    public void Forget(string directory)
    {
        var prefix = directory + Path.DirectorySeparatorChar;
        lock (_lock)
        {
            foreach (var entry in _entries.Values.Where(e => e.Path.StartsWith(prefix, StringComparison.Ordinal)).ToList())
            {
                Remove(entry);
            }
        }
    }

    public void Dispose()
    {
        lock (_lock)
        {
            foreach (var entry in _entries.Values.ToList())
            {
                Remove(entry);
            }
        }
    }

    private void Remove(Entry entry)
    {
        _entries.Remove(entry.Path);
        entry.Gone = true;
        if (entry.Idle is not null)
        {
            _idle.Remove(entry.Idle);
        }

        if (entry.Users == 0)
        {
            entry.Handle.Dispose();
        }
    }

    private void Return(Entry entry)
    {
        lock (_lock)
        {
            if (--entry.Users > 0)
            {
                return;
            }

            if (entry.Gone)
            {
                entry.Handle.Dispose();
                return;
            }

            entry.Idle = _idle.AddLast(entry);
            while (_idle.Count > capacity)
            {
                Remove(_idle.First!.Value);
            }
        }
    }

    internal sealed class Entry(string path, SafeFileHandle handle)
    {
        public string Path => path;

        public SafeFileHandle Handle => handle;

        public int Users { get; set; }

        public bool Gone { get; set; }

        public LinkedListNode<Entry>? Idle { get; set; }
    }

    internal readonly struct Lease(FileCache cache, Entry entry) : IDisposable
    {
        public SafeFileHandle Handle => entry.Handle;

        public void Dispose() => cache.Return(entry);
    }
}
