namespace Sandbox.Egress.Audit;

/// <summary>What one session's audited requests look like over time: small ones to one host at equal intervals (a beacon), many hosts or ports in a short time (a scan). Bounded; safe for concurrent use.</summary>
/// <param name="time">Clock.</param>
public sealed class TrafficPatterns(TimeProvider? time = null)
{
    /// <summary>So many equal intervals are a beacon.</summary>
    public const int BeaconIntervals = 8;

    /// <summary>So many different hosts in a minute are a scan.</summary>
    public const int ScanHosts = 60;

    /// <summary>So many different ports of one host in a minute are a scan.</summary>
    public const int ScanPorts = 10;

    private const int BeaconBytes = 4096;
    private const int MaxHosts = 1024;
    private static readonly TimeSpan Minute = TimeSpan.FromMinutes(1);
    private readonly TimeProvider _time = time ?? TimeProvider.System;
    private readonly Lock _gate = new();
    private readonly Dictionary<string, Queue<DateTimeOffset>> _small = new(StringComparer.Ordinal);
    private readonly Dictionary<(string Host, int Port), DateTimeOffset> _recent = [];

    /// <summary>Notes a request; says what it makes a pattern of, or <see langword="null"/>.</summary>
    /// <param name="host">Host.</param>
    /// <param name="port">Port.</param>
    /// <param name="bytes">Length of its body.</param>
    public string? Observe(string host, int port, long bytes)
    {
        ArgumentNullException.ThrowIfNull(host);
        var now = _time.GetUtcNow();
        lock (_gate)
        {
            foreach (var old in _recent.Where(r => now - r.Value >= Minute).Select(r => r.Key).ToArray())
            {
                _recent.Remove(old);
            }

            if (_recent.Count < MaxHosts)
            {
                _recent[(host, port)] = now;
            }

            if (_recent.Keys.Count(k => k.Host == host) >= ScanPorts)
            {
                return "a scan: many ports of one host in a minute";
            }

            if (_recent.Keys.Select(k => k.Host).Distinct().Count() >= ScanHosts)
            {
                return "a scan: many hosts in a minute";
            }

            return bytes <= BeaconBytes && IsBeacon(host, now) ? "a beacon: small requests to one host at equal intervals" : null;
        }
    }

    private bool IsBeacon(string host, DateTimeOffset now)
    {
        if (!_small.TryGetValue(host, out var times))
        {
            if (_small.Count >= MaxHosts)
            {
                _small.Clear();
            }

            _small[host] = times = new Queue<DateTimeOffset>();
        }

        times.Enqueue(now);
        if (times.Count > BeaconIntervals + 1)
        {
            times.Dequeue();
        }

        if (times.Count <= BeaconIntervals)
        {
            return false;
        }

        var seconds = times.Zip(times.Skip(1), (a, b) => (b - a).TotalSeconds).ToArray();
        var mean = seconds.Average();

        // Requests that follow each other at once are a program at work. People and retries are irregular.
        return mean >= 5 && Math.Sqrt(seconds.Average(s => (s - mean) * (s - mean))) < mean * 0.05;
    }
}
