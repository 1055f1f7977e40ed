using System.Text.Json.Nodes;
using Sandbox.Bench.Measuring;
using Sandbox.Bench.Report;
using Xunit;

namespace Sandbox.Bench.Tests;

public sealed class JsonLineTests
{
    private static readonly BenchResult Good = new()
    {
        Name = "warm",
        Headline = new Figure("p50_ms", 8.123456789),
        Baseline = new Figure("raw", 4.1),
        Ratio = 1.98,
        Verdicts = [new Verdict("≤ 2 × raw", 1.98, 2), new Verdict("≤ 10 ms", 8.1, 10)],
        Rows = [new Row("all", "ms", Distribution.Of([1, 2, 3]))],
    };

    [Fact]
    public void A_result_is_one_line_with_what_programs_look_for()
    {
        var line = JsonLine.Of(Good);
        var json = JsonNode.Parse(line)!;

        Assert.DoesNotContain('\n', line);
        Assert.Equal("warm", json["name"]!.ToString());
        Assert.Equal(8.12346, json["p50_ms"]!.GetValue<double>());
        Assert.Equal(4.1, json["baseline"]!.GetValue<double>());
        Assert.Equal(1.98, json["ratio"]!.GetValue<double>());
        Assert.Equal("≤ 2 × raw; ≤ 10 ms", json["target"]!.ToString());
        Assert.True(json["met"]!.GetValue<bool>());
        Assert.Equal(2, json["rows"]![0]!["median"]!.GetValue<double>());
    }

    [Fact]
    public void One_missed_target_is_a_miss()
    {
        var json = JsonNode.Parse(JsonLine.Of(Good with { Verdicts = [.. Good.Verdicts, new Verdict("≥ 1000", 999, 1000, AtLeast: true)] }))!;

        Assert.False(json["met"]!.GetValue<bool>());
        Assert.False(json["targets"]![2]!["met"]!.GetValue<bool>());
    }

    [Theory]
    [InlineData(double.NaN)]
    [InlineData(double.PositiveInfinity)]
    public void What_is_no_number_meets_no_ceiling_and_is_null(double value)
    {
        var json = JsonNode.Parse(JsonLine.Of(Good with { Ratio = value, Verdicts = [new Verdict("≤ 2", value, 2)] }))!;

        Assert.Null(json["ratio"]);
        Assert.False(json["met"]!.GetValue<bool>());
    }

    [Fact]
    public void A_bench_that_could_not_be_run_is_named_and_nothing_is_met()
    {
        var json = JsonNode.Parse(JsonLine.Of([Good], new Dictionary<string, string> { ["fork"] = "no" }))!;

        Assert.False(json["met"]!.GetValue<bool>());
        Assert.Equal(["warm", "fork"], json["benches"]!.AsArray().Select(b => b!["name"]!.ToString()));
        Assert.Equal("no", json["benches"]![1]!["error"]!.ToString());
    }
}
