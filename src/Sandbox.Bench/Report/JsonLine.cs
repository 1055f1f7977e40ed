using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Nodes;
using Sandbox.Bench.Measuring;

namespace Sandbox.Bench.Report;

/// <summary>A result as one line of JSON, for programs.</summary>
internal static class JsonLine
{
    /// <summary>It goes to terminals and files, never into a page: signs may stay what they are.</summary>
    private static readonly JsonSerializerOptions Readable = new() { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    /// <summary>One bench.</summary>
    public static string Of(BenchResult result) => ToJson(result).ToJsonString(Readable);

    /// <summary>Several: each on its own under <c>benches</c>, those that could not be run with their error.</summary>
    public static string Of(IEnumerable<BenchResult> results, IReadOnlyDictionary<string, string> errors)
    {
        var all = results.ToList();
        var benches = new JsonArray([.. all.Select(ToJson), .. errors.Select(e => new JsonObject { ["name"] = e.Key, ["error"] = e.Value, ["met"] = false })]);
        return new JsonObject { ["name"] = "all", ["met"] = errors.Count == 0 && all.All(r => r.Met), ["benches"] = benches }.ToJsonString(Readable);
    }

    private static JsonObject ToJson(BenchResult result) => new()
    {
        ["name"] = result.Name,
        [result.Headline.Name] = Number(result.Headline.Value),
        ["baseline"] = Number(result.Baseline.Value),
        ["baseline_is"] = result.Baseline.Name,
        ["ratio"] = Number(result.Ratio),
        ["target"] = string.Join("; ", result.Verdicts.Select(v => v.Target)),
        ["met"] = result.Met,
        ["targets"] = new JsonArray([.. result.Verdicts.Select(v => new JsonObject { ["target"] = v.Target, ["value"] = Number(v.Value), ["limit"] = Number(v.Limit), ["met"] = v.Met })]),
        ["rows"] = new JsonArray([.. result.Rows.Select(r => RowOf(r.What, r.Unit, r.Values))]),
        ["notes"] = new JsonArray([.. result.Notes.Select(n => JsonValue.Create(n))]),
        ["cpus"] = Environment.ProcessorCount,
    };

    private static JsonObject RowOf(string what, string unit, Distribution d) => new()
    {
        ["what"] = what,
        ["unit"] = unit,
        ["n"] = d.Count,
        ["min"] = Number(d.Min),
        ["median"] = Number(d.Median),
        ["p95"] = Number(d.P95),
        ["max"] = Number(d.Max),
    };

    /// <summary>JSON has no infinity and no NaN; nobody needs more than six digits of a measurement.</summary>
    private static JsonValue? Number(double value) => double.IsFinite(value) ? JsonValue.Create(value == 0 ? 0 : Rounded(value)) : null;

    private static double Rounded(double value)
    {
        var digits = Math.Clamp(5 - (int)Math.Floor(Math.Log10(Math.Abs(value))), 0, 15);
        return Math.Round(value, digits);
    }
}
