using Sandbox.Bench.Report;

namespace Sandbox.Bench.Benches;

/// <summary>One bench: measures something users feel beside the rawest thing that could do the same, and says whether its targets are met.</summary>
internal interface IBench
{
    /// <summary>What <c>scripts/bench</c> calls it.</summary>
    string Name { get; }

    /// <summary>One line for <c>scripts/bench list</c>.</summary>
    string Summary { get; }

    /// <summary>Its targets as docs/specification.md has them; empty where it only informs.</summary>
    IReadOnlyList<string> Targets { get; }

    /// <summary>Measures. Leaves nothing running, however it ends.</summary>
    /// <exception cref="BenchException">It cannot be run here; the message says why.</exception>
    Task<BenchResult> RunAsync(BenchContext context, CancellationToken cancellationToken);
}
