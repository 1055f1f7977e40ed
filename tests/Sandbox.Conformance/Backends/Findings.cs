namespace Sandbox.Conformance.Backends;

/// <summary>What the suites found out about a backend, for docs/backends.md.</summary>
public sealed class Findings
{
    /// <summary>A golden snapshot that was made for these tests.</summary>
    public string? GoldenDirectory { get; set; }

    /// <summary>Measured: name to the median, in milliseconds or MiB as the name says.</summary>
    public SortedDictionary<string, double> Measured { get; } = new(StringComparer.Ordinal);

    /// <summary>Attacks: name to how it was contained.</summary>
    public SortedDictionary<string, string> Attacks { get; } = new(StringComparer.Ordinal);

    /// <summary>Tests of the conformance suite that it passed.</summary>
    public SortedSet<string> Passed { get; } = new(StringComparer.Ordinal);
}
