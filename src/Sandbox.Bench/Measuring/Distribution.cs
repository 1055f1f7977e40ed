namespace Sandbox.Bench.Measuring;

/// <summary>Samples, as their median and spread.</summary>
/// <param name="Count">How many.</param>
/// <param name="Min">Least.</param>
/// <param name="Median">The middle one; between two, their mean.</param>
/// <param name="P95">At most this in 95 of 100, interpolated between neighbours.</param>
/// <param name="Max">Most.</param>
internal sealed record Distribution(int Count, double Min, double Median, double P95, double Max)
{
    /// <summary>Summarises samples.</summary>
    /// <exception cref="ArgumentException">There are none.</exception>
    public static Distribution Of(IEnumerable<double> samples)
    {
        double[] sorted = [.. samples.Order()];
        return sorted.Length == 0
            ? throw new ArgumentException("There are no samples.", nameof(samples))
            : new Distribution(sorted.Length, sorted[0], Quantile(sorted, 0.5), Quantile(sorted, 0.95), sorted[^1]);
    }

    /// <summary>Summarises times, in milliseconds.</summary>
    public static Distribution OfMilliseconds(IEnumerable<TimeSpan> times) => Of(times.Select(t => t.TotalMilliseconds));

    /// <summary>A single value.</summary>
    public static Distribution One(double value) => Of([value]);

    private static double Quantile(double[] sorted, double q)
    {
        var at = q * (sorted.Length - 1);
        var below = (int)at;
        return below + 1 < sorted.Length ? sorted[below] + ((at - below) * (sorted[below + 1] - sorted[below])) : sorted[below];
    }
}
