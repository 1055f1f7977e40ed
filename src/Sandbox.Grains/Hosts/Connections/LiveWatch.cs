using Sandbox.Abstractions;
using Sandbox.Guest.Protocol;
using Sandbox.Isolation.Guest;

namespace Sandbox.Grains.Hosts.Connections;

/// <summary>A watch in a guest and the events of it that nobody has read yet: so many, and so many bytes, as fit; what comes beyond is counted.</summary>
internal sealed class LiveWatch
{
    public const int MaxEvents = 10_000;
    private const int MaxPage = 1000;

    /// <summary>A guest chooses how long its paths are, up to 4 KiB each.</summary>
    private const int MaxPathChars = 2 << 20;
    private static readonly TimeSpan LongestWait = TimeSpan.FromSeconds(20);
    private readonly IGuestWatch _guest;
    private readonly string _directory;
    private readonly TimeProvider _clock;
    private readonly Queue<FileEvent> _events = new();
    private readonly Lock _lock = new();
    private TaskCompletionSource _changed = New();
    private long _lastRead;
    private long _dropped;
    private long _chars;
    private bool _closed;
    private int _readers;

    /// <param name="guest">The watch; disposed with this.</param>
    /// <param name="directory">The absolute path of the watched directory: its removal is the end.</param>
    /// <param name="clock">Tells how long nobody reads.</param>
    public LiveWatch(IGuestWatch guest, string directory, TimeProvider clock)
    {
        (_guest, _directory, _clock) = (guest, directory, clock);
        _lastRead = clock.GetTimestamp();
        using (ExecutionContext.SuppressFlow())
        {
            _ = Task.Run(FeedAsync);
        }
    }

    /// <summary>How long nobody has read it.</summary>
    public TimeSpan Unused => Volatile.Read(ref _readers) > 0 ? TimeSpan.Zero : _clock.GetElapsedTime(Volatile.Read(ref _lastRead));

    public async Task<FileEventPage> ReadAsync(TimeSpan wait)
    {
        if (Interlocked.Increment(ref _readers) > 1)
        {
            Interlocked.Decrement(ref _readers);
            throw SandboxException.Conflict("The watch is being read by another call already.");
        }

        try
        {
            Task changed;
            lock (_lock)
            {
                changed = _events.Count > 0 || _dropped > 0 || _closed ? Task.CompletedTask : _changed.Task;
            }

            var patience = wait <= TimeSpan.Zero ? TimeSpan.Zero : wait < LongestWait ? wait : LongestWait;
            if (patience > TimeSpan.Zero)
            {
                await Task.WhenAny(changed, Task.Delay(patience));
            }

            return Take();
        }
        finally
        {
            Volatile.Write(ref _lastRead, _clock.GetTimestamp());
            Interlocked.Decrement(ref _readers);
        }
    }

    public async Task CloseAsync()
    {
        Close();
        await _guest.DisposeAsync();
    }

    private FileEventPage Take()
    {
        lock (_lock)
        {
            var page = new List<FileEvent>(Math.Min(_events.Count, MaxPage));
            while (page.Count < MaxPage && _events.TryDequeue(out var next))
            {
                _chars -= next.Path.Length;
                page.Add(next);
            }

            var dropped = _dropped;
            _dropped = 0;
            return new FileEventPage(page, dropped, _closed && _events.Count == 0);
        }
    }

    private async Task FeedAsync()
    {
        try
        {
            await foreach (var change in _guest.Events)
            {
                Add(change);
                if (change.Kind == WatchEvent.Types.Kind.Removed && change.Path == _directory)
                {
                    break;
                }
            }
        }
        catch (GuestUnavailableException)
        {
            // The end of the watch, as its reader is told.
        }

        Close();
    }

    private void Add(WatchEvent change)
    {
        lock (_lock)
        {
            _dropped += (long)Math.Min(change.Dropped, int.MaxValue);
            if (_events.Count >= MaxEvents || _chars + change.Path.Length > MaxPathChars)
            {
                // The oldest are kept: a reader learns from the count that it must look for itself.
                _dropped++;
                return;
            }

            _chars += change.Path.Length;
            _events.Enqueue(new FileEvent((FileChange)(int)change.Kind, change.Path));
            Announce();
        }
    }

    private void Close()
    {
        lock (_lock)
        {
            _closed = true;
            Announce();
        }
    }

    private void Announce()
    {
        _changed.TrySetResult();
        _changed = New();
    }

    private static TaskCompletionSource New() => new(TaskCreationOptions.RunContinuationsAsynchronously);
}
