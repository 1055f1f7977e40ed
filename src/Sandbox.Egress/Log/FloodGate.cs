using Sandbox.Abstractions;

namespace Sandbox.Egress.Log;

/// <summary>Thins floods: of equal records the first passes at once; those that come within a second of it become one that counts them. Not thread-safe.</summary>
internal sealed class FloodGate
{
    public static readonly TimeSpan Window = TimeSpan.FromSeconds(1);

    private const int MaxKeys = 1024;
    private readonly Dictionary<EgressRecord, (DateTimeOffset Since, EgressRecord? Held)> _recent = new(new Likeness());

    /// <summary>Whether anything is held back.</summary>
    public bool Holds { get; private set; }

    /// <summary>Takes a record; gives those to be written now.</summary>
    public IEnumerable<EgressRecord> Take(EgressRecord record, DateTimeOffset now)
    {
        if (_recent.TryGetValue(record, out var entry) && now - entry.Since < Window)
        {
            _recent[record] = entry with { Held = entry.Held is { } held ? Sum(held, record) : record };
            Holds = true;
            return [];
        }

        var due = _recent.Count >= MaxKeys ? Release(now, everything: true) : entry.Held is { } left ? [left] : [];
        _recent[record] = (now, null);
        return [.. due, record];
    }

    /// <summary>Gives what was held back for a second, or everything.</summary>
    public IReadOnlyList<EgressRecord> Release(DateTimeOffset now, bool everything = false)
    {
        var over = _recent.Where(e => everything || now - e.Value.Since >= Window).ToArray();
        foreach (var (key, _) in over)
        {
            _recent.Remove(key);
        }

        Holds = _recent.Values.Any(v => v.Held is not null);
        return [.. over.Where(e => e.Value.Held is not null).Select(e => e.Value.Held!).OrderBy(r => r.At)];
    }

    private static EgressRecord Sum(EgressRecord a, EgressRecord b) => a with
    {
        At = b.At,
        Count = a.Count + b.Count,
        BytesUp = a.BytesUp + b.BytesUp,
        BytesDown = a.BytesDown + b.BytesDown,
        Duration = a.Duration > b.Duration ? a.Duration : b.Duration ?? a.Duration,
    };

    /// <summary>Equal but for number, time, bytes and duration.</summary>
    private sealed class Likeness : IEqualityComparer<EgressRecord>
    {
        public bool Equals(EgressRecord? x, EgressRecord? y) =>
            ReferenceEquals(x, y) || (x is not null && y is not null && x.Kind == y.Kind && x.Outcome == y.Outcome && x.Host == y.Host && x.Address == y.Address && x.Port == y.Port && x.Method == y.Method
                && x.Path == y.Path && x.Status == y.Status && x.Reason == y.Reason && x.By == y.By && x.Generation == y.Generation && x.Secrets.SequenceEqual(y.Secrets));

        public int GetHashCode(EgressRecord record) => HashCode.Combine(record.Kind, record.Outcome, record.Host, record.Address, record.Port, record.Method, record.Path, record.Status);
    }
}
