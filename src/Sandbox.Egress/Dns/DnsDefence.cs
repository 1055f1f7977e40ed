namespace Sandbox.Egress.Dns;

/// <summary>
/// Keeps data from leaving inside of names. A question that goes upstream carries what its name says to whoever owns the domain, so that a rule like <c>*.example.org</c> alone would let out as much as one likes: below one
/// registered domain only so many different names, and so many bytes of them, are asked for in ten minutes. Long labels that look encoded weigh more. For one session; safe for concurrent use.
/// </summary>
/// <param name="time">Clock.</param>
public sealed class DnsDefence(TimeProvider? time = null)
{
    /// <summary>How long is looked back, at most.</summary>
    public static readonly TimeSpan Window = TimeSpan.FromMinutes(10);

    /// <summary>Most weight of different names below one registered domain in the window; an ordinary name weighs 1.</summary>
    public const int MaxWeight = 120;

    /// <summary>What a name with a label that looks encoded weighs.</summary>
    public const int EncodedWeight = 12;

    /// <summary>Most bytes of different names below one registered domain in the window.</summary>
    public const int MaxBytes = 8 * 1024;

    /// <summary>Most bytes of different names in all in the window.</summary>
    public const int MaxTotalBytes = 128 * 1024;

    private const int EncodedLength = 40;
    private const double EncodedEntropy = 3.3;
    private readonly TimeProvider _time = time ?? TimeProvider.System;
    private readonly Lock _gate = new();
    private readonly Dictionary<string, Domain> _domains = new(StringComparer.Ordinal);
    private DateTimeOffset _since;
    private int _total;

    /// <summary>Whether a name may be asked for; says why not.</summary>
    /// <param name="name">Lower case, without a final dot.</param>
    public string? WhyNot(string name)
    {
        ArgumentNullException.ThrowIfNull(name);
        var registered = RegisteredDomain(name);
        var encoded = LooksEncoded(name.AsSpan(0, name.Length - registered.Length));
        lock (_gate)
        {
            var now = _time.GetUtcNow();
            if (now - _since >= Window)
            {
                _domains.Clear();
                _total = 0;
                _since = now;
            }

            var domain = _domains.GetValueOrDefault(registered);
            if (domain?.Names.Contains(name) ?? false)
            {
                return null;
            }

            if (_total + name.Length > MaxTotalBytes)
            {
                return $"DNS tunnel: more than {MaxTotalBytes / 1024} KiB of different names in {Window.TotalMinutes} minutes";
            }

            domain ??= _domains[registered] = new Domain();
            var weight = encoded ? EncodedWeight : 1;
            if (domain.Weight + weight > MaxWeight || domain.Bytes + name.Length > MaxBytes)
            {
                return encoded
                    ? $"DNS tunnel: many long names that look encoded below {registered}"
                    : $"DNS tunnel: too many different names below {registered} in {Window.TotalMinutes} minutes";
            }

            domain.Names.Add(name);
            domain.Weight += weight;
            domain.Bytes += name.Length;
            _total += name.Length;
            return null;
        }
    }

    /// <summary>
    /// The part of a name that somebody registered: its last two labels, or three where the last is a country and the one before is short (co.uk). Without the list of public suffixes: where that is wrong, names of many owners
    /// share one bound, which is strict and not loose.
    /// </summary>
    public static string RegisteredDomain(string name)
    {
        ArgumentNullException.ThrowIfNull(name);
        var labels = name.Split('.');
        var take = labels.Length >= 3 && labels[^1].Length == 2 && labels[^2].Length <= 3 ? 3 : 2;
        return string.Join('.', labels.TakeLast(take));
    }

    private static bool LooksEncoded(ReadOnlySpan<char> below)
    {
        var text = below.ToString().Replace(".", "", StringComparison.Ordinal);
        if (text.Length < EncodedLength)
        {
            return false;
        }

        var entropy = 0.0;
        foreach (var group in text.GroupBy(c => c))
        {
            var share = (double)group.Count() / text.Length;
            entropy -= share * Math.Log2(share);
        }

        return entropy >= EncodedEntropy;
    }

    private sealed class Domain
    {
        public HashSet<string> Names { get; } = new(StringComparer.Ordinal);

        public int Weight { get; set; }

        public int Bytes { get; set; }
    }
}
