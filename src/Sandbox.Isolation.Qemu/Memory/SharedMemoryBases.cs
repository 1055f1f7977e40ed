namespace Sandbox.Isolation.Qemu.Memory;

/// <summary>
/// Memories of saved machines from which others are restored, one for each name. Each lives as long as a machine that maps it, and a little longer, for the next.
/// </summary>
internal sealed class SharedMemoryBases(TimeSpan linger)
{
    private readonly Dictionary<string, Entry> _entries = new(StringComparer.Ordinal);
    private readonly Dictionary<string, (SemaphoreSlim Turn, int Waiting)> _turns = new(StringComparer.Ordinal);
    private readonly Lock _lock = new();

    /// <summary>The memory with a name, made by <paramref name="build"/> if it is not there. One caller makes it; if it fails, the next one tries.</summary>
    public async Task<Lease> RentAsync(string name, Func<CancellationToken, Task<SharedMemoryBase>> build, CancellationToken cancellationToken)
    {
        SemaphoreSlim turn;
        lock (_lock)
        {
            var (known, waiting) = _turns.GetValueOrDefault(name);
            turn = known ?? new SemaphoreSlim(1, 1);
            _turns[name] = (turn, waiting + 1);
        }

        try
        {
            await turn.WaitAsync(cancellationToken);
            try
            {
                if (Find(name) is { } found)
                {
                    return found;
                }

                return Add(name, await build(cancellationToken));
            }
            finally
            {
                turn.Release();
            }
        }
        finally
        {
            lock (_lock)
            {
                var (_, waiting) = _turns[name];
                if (waiting == 1)
                {
                    _turns.Remove(name);
                }
                else
                {
                    _turns[name] = (turn, waiting - 1);
                }
            }
        }
    }

    /// <summary>Puts a memory that has been made there, under a name that nobody has used.</summary>
    public Lease Add(string name, SharedMemoryBase made)
    {
        lock (_lock)
        {
            return Hold(_entries[name] = new Entry(made, name));
        }
    }

    /// <summary>The memory with a name, or <see langword="null"/> where there is none.</summary>
    public Lease? Find(string name)
    {
        lock (_lock)
        {
            return _entries.TryGetValue(name, out var entry) ? Hold(entry) : null;
        }
    }

    private Lease Hold(Entry entry)
    {
        lock (_lock)
        {
            entry.Users++;
            return new Lease(this, entry);
        }
    }

    private void Release(Entry entry)
    {
        lock (_lock)
        {
            if (--entry.Users > 0)
            {
                return;
            }
        }

        _ = Task.Delay(linger).ContinueWith(_ => RemoveUnused(entry), TaskScheduler.Default);
    }

    private void RemoveUnused(Entry entry)
    {
        lock (_lock)
        {
            if (entry.Users > 0 || !ReferenceEquals(_entries.GetValueOrDefault(entry.Name), entry))
            {
                return;
            }

            _entries.Remove(entry.Name);
        }

        entry.Base.Layer?.Dispose();
    }

    /// <summary>One memory, for as long as this is not disposed.</summary>
    public sealed class Lease : IDisposable
    {
        private readonly SharedMemoryBases _owner;
        private readonly Entry _entry;
        private int _disposed;

        internal Lease(SharedMemoryBases owner, Entry entry) => (_owner, _entry) = (owner, entry);

        public SharedMemoryBase Base => _entry.Base;

        /// <summary>A second one.</summary>
        public Lease Again() => _owner.Hold(_entry);

        public void Dispose()
        {
            if (Interlocked.Exchange(ref _disposed, 1) == 0)
            {
                _owner.Release(_entry);
            }
        }
    }

    internal sealed class Entry(SharedMemoryBase memory, string name)
    {
        public SharedMemoryBase Base => memory;

        public string Name => name;

        public int Users { get; set; }
    }
}
