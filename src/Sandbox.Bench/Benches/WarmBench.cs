using System.Diagnostics;
using Sandbox.Bench.Machines;
using Sandbox.Bench.Measuring;
using Sandbox.Bench.Report;
using Sandbox.Bench.Serving;

namespace Sandbox.Bench.Benches;

/// <summary>A new session to its first byte of output, against the machine's own part of it.</summary>
internal sealed class WarmBench : IBench
{
    private const string RatioTarget = "create and first byte ≤ 2 × raw cont and first byte";
    private const string TimeTarget = "create and first byte p50 ≤ 10 ms";
    private const int WarmUp = 3;

    public string Name => "warm";

    public string Summary => "create a session from the warm pool and see its first byte of output, over HTTP";

    public IReadOnlyList<string> Targets => [RatioTarget, TimeTarget];

    public async Task<BenchResult> RunAsync(BenchContext context, CancellationToken cancellationToken)
    {
        var samples = context.SamplesOr(30);
        using var profile = context.Profile ? new CallProfile() : null;
        await using var own = new OwnBackend(context);
        await using var recipe = await RawRecipe.TakeAsync(own, cancellationToken);
        await using var server = await PrivateServer.StartAsync(context, new Dictionary<string, string> { ["warmPool"] = "2" }, profile is null ? null : profile.AddTo, cancellationToken);
        var raw = new List<TimeSpan>();
        var through = new List<Sample>();
        var misses = 0;
        for (var i = -WarmUp; i < samples; i++)
        {
            await server.WaitForPoolAsync(cancellationToken);
            var bare = await RawAsync(recipe, cancellationToken);
            await server.WaitForPoolAsync(cancellationToken);
            if (i == 0)
            {
                profile?.Start();
            }

            var sample = await ThroughAsync(server.Http, cancellationToken);
            if (i < 0)
            {
                continue;
            }

            raw.Add(bare);
            if (sample.Method == "pool")
            {
                through.Add(sample);
            }
            else
            {
                misses++;
            }

            context.Say($"{i + 1}/{samples}: raw {bare.TotalMilliseconds:0.0} ms, Sandbox {sample.Total.TotalMilliseconds:0.0} ms");
        }

        profile?.Say(context.Say, samples);
        if (through.Count == 0)
        {
            throw new BenchException("no session was given a machine of the warm pool");
        }

        var (all, bareAll) = (Distribution.OfMilliseconds(through.Select(s => s.Total)), Distribution.OfMilliseconds(raw));
        var ratio = all.Median / bareAll.Median;
        return new BenchResult
        {
            Name = Name,
            Headline = new Figure("p50_ms", all.Median),
            Baseline = new Figure("QMP cont and first byte of the same echo, on a machine parked like those of the pool", bareAll.Median),
            Ratio = ratio,
            Verdicts = [new Verdict(RatioTarget, ratio, 2), new Verdict(TimeTarget, all.Median, 10)],
            Rows =
            [
                new Row("raw: cont + first byte", "ms", bareAll),
                new Row("Sandbox: create + first byte", "ms", all),
                new Row("  create call", "ms", Distribution.OfMilliseconds(through.Select(s => s.Created))),
                new Row("    of it: creation to Running, as the session says", "ms", Distribution.Of(through.Select(s => s.StartMs))),
                new Row("  start call to its response", "ms", Distribution.OfMilliseconds(through.Select(s => s.Started))),
                new Row("  response to first byte", "ms", Distribution.OfMilliseconds(through.Select(s => s.First))),
                new Row("  first byte to exit", "ms", Distribution.OfMilliseconds(through.Select(s => s.Exit))),
            ],
            Notes = misses > 0 ? [$"{misses} of {samples} sessions found the pool empty and are left out"] : [],
        };
    }

    private static async Task<TimeSpan> RawAsync(RawRecipe recipe, CancellationToken cancellationToken)
    {
        // A new machine each time: one that has been continued before is warmer than those of the pool.
        await using var machine = await RawMachine.CloneAsync(recipe, cancellationToken);
        await machine.ParkAsync(cancellationToken);
        var began = Stopwatch.GetTimestamp();
        await machine.ContinueAsync(cancellationToken);
        return Stopwatch.GetElapsedTime(began, await GuestRuns.RunAsync(machine.Guest, GuestRuns.Echo, null, cancellationToken));
    }

    private static async Task<Sample> ThroughAsync(SandboxHttp http, CancellationToken cancellationToken)
    {
        var began = Stopwatch.GetTimestamp();
        var session = await http.CreateAsync(cancellationToken);
        var created = Stopwatch.GetTimestamp();
        var id = SandboxHttp.Text(session, "id");
        try
        {
            var run = await http.RunWellAsync(id, SandboxHttp.Argv([.. GuestRuns.Echo]), cancellationToken);
            return new Sample(
                SandboxHttp.Text(session, "startMethod"),
                session["startSeconds"]!.GetValue<double>() * 1000,
                Stopwatch.GetElapsedTime(began, created),
                Stopwatch.GetElapsedTime(created, run.Headers),
                Stopwatch.GetElapsedTime(run.Headers, run.FirstByte),
                Stopwatch.GetElapsedTime(run.FirstByte, run.Ended));
        }
        finally
        {
            await http.DeleteQuietlyAsync(id);
        }
    }

    private sealed record Sample(string Method, double StartMs, TimeSpan Created, TimeSpan Started, TimeSpan First, TimeSpan Exit)
    {
        public TimeSpan Total => Created + Started + First;
    }
}
