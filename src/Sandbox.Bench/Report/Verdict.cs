using System.Globalization;

namespace Sandbox.Bench.Report;

/// <summary>A target and what came of it.</summary>
/// <param name="Target">As the specification has it.</param>
/// <param name="Value">What was measured.</param>
/// <param name="Limit">The bound.</param>
/// <param name="AtLeast">The bound is a floor, not a ceiling.</param>
internal sealed record Verdict(string Target, double Value, double Limit, bool AtLeast = false)
{
    /// <summary>Whether it is met. What is no number meets nothing.</summary>
    public bool Met => AtLeast ? Value >= Limit : Value <= Limit;

    /// <summary>For people.</summary>
    public override string ToString() => string.Create(CultureInfo.InvariantCulture, $"{(Met ? "met" : "MISSED")}: {Target} (measured {Value:0.###})");
}
