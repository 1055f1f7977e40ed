using System.Globalization;
using Sandbox.Abstractions;

namespace Sandbox.Grains.Hosts.Leases;

/// <summary>
/// The highest generation a host has seen of each session, on disk, so that a restarted host still refuses a stale start.
/// An append-only journal of lines <c>session generation unix-seconds</c>, rewritten when the host starts. A forgotten session keeps
/// a tombstone (the highest number there is) for a week: a start that was under way when it was deleted must not bring it back.
/// </summary>
internal sealed class GenerationLedger : IDisposable
{
    private const long Forgotten = long.MaxValue;
    private static readonly TimeSpan TombstoneLife = TimeSpan.FromDays(7);

    private readonly Lock _gate = new();
    private readonly Dictionary<string, Entry> _entries = new(StringComparer.Ordinal);
    private readonly TimeProvider _clock;
    private readonly StreamWriter _journal;

    public GenerationLedger(string path, TimeProvider clock)
    {
        _clock = clock;
        var oldest = clock.GetUtcNow() - TombstoneLife;
        if (File.Exists(path))
        {
            foreach (var entry in File.ReadLines(path).Select(Parse).OfType<Entry>())
            {
                if (!_entries.TryGetValue(entry.Session, out var known) || known.Generation <= entry.Generation)
                {
                    _entries[entry.Session] = entry;
                }
            }
        }

        foreach (var old in _entries.Values.Where(e => e.Generation == Forgotten && e.At < oldest).ToList())
        {
            _entries.Remove(old.Session);
        }

        var partial = path + ".partial";
        File.WriteAllLines(partial, _entries.Values.Select(Format));
        File.Move(partial, path, overwrite: true);
        _journal = new StreamWriter(new FileStream(path, FileMode.Append, FileAccess.Write, FileShare.Read)) { AutoFlush = true };
    }

    /// <summary>Notes a generation. Returns once the operating system has it.</summary>
    /// <exception cref="SandboxException"><see cref="SandboxErrorCode.Conflict"/>: a higher one has been seen.</exception>
    public void Raise(string session, long generation)
    {
        lock (_gate)
        {
            var seen = _entries.TryGetValue(session, out var entry) ? entry.Generation : 0;
            if (generation < seen)
            {
                throw SandboxException.Conflict(seen == Forgotten
                    ? $"Session {session} was removed from this host."
                    : $"Generation {generation} of session {session} is stale: this host has seen {seen}.");
            }

            if (generation > seen)
            {
                Note(session, generation);
            }
        }
    }

    /// <summary>The highest generation seen of a session, or 0.</summary>
    public long HighestOf(string session)
    {
        lock (_gate)
        {
            return _entries.TryGetValue(session, out var entry) ? entry.Generation : 0;
        }
    }

    /// <summary>Refuses everything of a session from now on.</summary>
    public void Forget(string session)
    {
        lock (_gate)
        {
            Note(session, Forgotten);
        }
    }

    public void Dispose() => _journal.Dispose();

    private void Note(string session, long generation)
    {
        var entry = new Entry(session, generation, _clock.GetUtcNow());
        _journal.WriteLine(Format(entry));
        _entries[session] = entry;
    }

    private static string Format(Entry e) => string.Create(CultureInfo.InvariantCulture, $"{e.Session} {e.Generation} {e.At.ToUnixTimeSeconds()}");

    /// <summary>A torn last line (the machine lost power) is not an entry.</summary>
    private static Entry? Parse(string line) =>
        line.Split(' ') is [var session, var generation, var at]
        && SandboxIds.IsSession(session)
        && long.TryParse(generation, CultureInfo.InvariantCulture, out var number)
        && long.TryParse(at, CultureInfo.InvariantCulture, out var seconds)
            ? new Entry(session, number, DateTimeOffset.FromUnixTimeSeconds(seconds))
            : null;

    private sealed record Entry(string Session, long Generation, DateTimeOffset At);
}
