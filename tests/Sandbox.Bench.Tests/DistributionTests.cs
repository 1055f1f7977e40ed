using Sandbox.Bench.Measuring;
using Xunit;

namespace Sandbox.Bench.Tests;

public sealed class DistributionTests
{
    [Fact]
    public void The_median_of_an_even_number_lies_between_the_middle_two()
    {
        var d = Distribution.Of([4, 1, 3, 2]);

        Assert.Equal((4, 1.0, 2.5, 4.0), (d.Count, d.Min, d.Median, d.Max));
    }

    [Fact]
    public void The_95th_percentile_is_interpolated_and_one_outlier_in_a_hundred_does_not_move_it()
    {
        var d = Distribution.Of([.. Enumerable.Range(1, 100).Select(i => (double)i), 1e6]);

        Assert.Equal(96, d.P95, 9);
        Assert.Equal(51, d.Median);
        Assert.Equal(1e6, d.Max);
    }

    [Fact]
    public void One_sample_is_all_there_is() => Assert.Equal(new Distribution(1, 7, 7, 7, 7), Distribution.One(7));

    [Fact]
    public void No_samples_are_an_error() => Assert.Throws<ArgumentException>(() => Distribution.Of([]));
}
