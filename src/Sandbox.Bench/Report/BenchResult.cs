using Sandbox.Bench.Measuring;

namespace Sandbox.Bench.Report;

/// <summary>What a bench found.</summary>
internal sealed record BenchResult
{
    /// <summary>The bench.</summary>
    public required string Name { get; init; }

    /// <summary>The one number it stands for, under the name that it has in JSON (<c>p50_ms</c>).</summary>
    public required Figure Headline { get; init; }

    /// <summary>The same of the baseline, in the same unit.</summary>
    public required Figure Baseline { get; init; }

    /// <summary>The bench's own ratio of the two.</summary>
    public required double Ratio { get; init; }

    /// <summary>Each target and whether it is met.</summary>
    public required IReadOnlyList<Verdict> Verdicts { get; init; }

    /// <summary>Everything that was measured.</summary>
    public required IReadOnlyList<Row> Rows { get; init; }

    /// <summary>What a reader must know of this run.</summary>
    public IReadOnlyList<string> Notes { get; init; } = [];

    /// <summary>Whether every target is met.</summary>
    public bool Met => Verdicts.All(v => v.Met);
}

/// <summary>A named number.</summary>
/// <param name="Name">Its name in JSON.</param>
/// <param name="Value">The number.</param>
internal sealed record Figure(string Name, double Value);

/// <summary>A line of the table.</summary>
/// <param name="What">What was measured.</param>
/// <param name="Unit">In what.</param>
/// <param name="Values">The samples.</param>
internal sealed record Row(string What, string Unit, Distribution Values);
