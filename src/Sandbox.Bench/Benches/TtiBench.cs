using System.Diagnostics;
using Sandbox.Bench.Machines;
using Sandbox.Bench.Measuring;
using Sandbox.Bench.Report;
using Sandbox.Bench.Serving;
using Sandbox.Isolation.Images;

namespace Sandbox.Bench.Benches;

/// <summary>Time to interactive: a new session to a finished <c>node -v</c>, one after the other, one each 200 ms, and all at once.</summary>
internal sealed class TtiBench : IBench
{
    private const string SuccessTarget = "every session of every pattern answers";
    private const int MostAtOnce = 20;
    private static readonly TimeSpan Stagger = TimeSpan.FromMilliseconds(200);

    public string Name => "tti";

    public string Summary => "create a session and see `node -v` done: sequential, staggered, burst";

    public IReadOnlyList<string> Targets => [SuccessTarget];

    public async Task<BenchResult> RunAsync(BenchContext context, CancellationToken cancellationToken)
    {
        var samples = context.SamplesOr(MostAtOnce);
        var boots = await RawBoots.MeasureAsync(context, cancellationToken);
        await using var server = await PrivateServer.StartAsync(context, new Dictionary<string, string>(), null, cancellationToken);
        var holds = Math.Min(samples, RoomFor(TemplateImage.Load(context.Image).Sizes.MemoryMiB));
        await OneAsync(server.Http, cancellationToken);
        var patterns = new List<(string Name, List<TimeSpan?> Times)>();
        foreach (var (name, count, run) in ((string, int, Func<Task<List<TimeSpan?>>>)[])
            [
                ("sequential", samples, () => SequentialAsync(server.Http, samples, null, cancellationToken)),
                ($"staggered by {Stagger.TotalMilliseconds:0} ms", holds, () => TogetherAsync(server.Http, holds, Stagger, cancellationToken)),
                ("burst", holds, () => TogetherAsync(server.Http, holds, TimeSpan.Zero, cancellationToken)),
            ])
        {
            await server.WaitForPoolAsync(cancellationToken);
            context.Say($"{name}: {count} sessions");
            patterns.Add(($"{name} ({count})", await run()));
        }

        var all = patterns.SelectMany(p => p.Times).ToList();
        var answered = all.Count(t => t is not null);
        if (patterns[0].Times.TrueForAll(t => t is null))
        {
            throw new BenchException("no session answered");
        }

        var sequential = Distribution.OfMilliseconds(patterns[0].Times.OfType<TimeSpan>());
        return new BenchResult
        {
            Name = Name,
            Headline = new Figure("p50_ms", sequential.Median),
            Baseline = new Figure("booting raw QEMU to an agent that answers", boots.Median),
            Ratio = sequential.Median / boots.Median,
            Verdicts = [new Verdict(SuccessTarget, (double)answered / all.Count, 1, AtLeast: true)],
            Rows =
            [
                new Row("raw: boot to agent", "ms", boots),
                .. patterns.Where(p => p.Times.Exists(t => t is not null)).Select(p => new Row(p.Name, "ms", Distribution.OfMilliseconds(p.Times.OfType<TimeSpan>()))),
                .. patterns.Select(p => new Row($"{p.Name}: answered", "%", Distribution.One(100.0 * p.Times.Count(t => t is not null) / p.Times.Count))),
            ],
        };
    }

    /// <summary>How many sessions fit: what the server gives to microVMs (three quarters of the machine), and what is free now.</summary>
    internal static int RoomFor(int memoryMiB)
    {
        var granted = GC.GetGCMemoryInfo().TotalAvailableMemoryBytes / 4 * 3;
        var free = MachineMemory.Available() / 10 * 9;
        return (int)Math.Clamp(Math.Min(granted, free) / ((long)memoryMiB << 20), 1, MostAtOnce);
    }

    internal static async Task<List<TimeSpan?>> SequentialAsync(SandboxHttp http, int count, string? shell, CancellationToken cancellationToken)
    {
        var times = new List<TimeSpan?>();
        for (var i = 0; i < count; i++)
        {
            times.Add(await OneAsync(http, cancellationToken, shell));
        }

        return times;
    }

    private static async Task<List<TimeSpan?>> TogetherAsync(SandboxHttp http, int count, TimeSpan apart, CancellationToken cancellationToken)
    {
        var running = new List<Task<TimeSpan?>>();
        for (var i = 0; i < count; i++)
        {
            running.Add(OneAsync(http, cancellationToken));
            await Task.Delay(apart, cancellationToken);
        }

        return [.. await Task.WhenAll(running)];
    }

    /// <summary><see langword="null"/>: it did not answer, or answered something else than a version of Node.</summary>
    internal static async Task<TimeSpan?> OneAsync(SandboxHttp http, CancellationToken cancellationToken, string? shell = null)
    {
        string? id = null;
        try
        {
            var began = Stopwatch.GetTimestamp();
            id = SandboxHttp.Text(await http.CreateAsync(cancellationToken), "id");
            var run = await http.RunAsync(id, shell is null ? SandboxHttp.Argv("node", "-v") : SandboxHttp.Argv("/bin/bash", "-l", "-c", shell), null, cancellationToken);
            return run.ExitCode == 0 && run.Said.ToString().StartsWith('v') ? Stopwatch.GetElapsedTime(began, run.Ended) : null;
        }
        catch (Exception e) when (e is BenchException or HttpRequestException or IOException && !cancellationToken.IsCancellationRequested)
        {
            return null;
        }
        finally
        {
            if (id is not null)
            {
                await http.DeleteQuietlyAsync(id);
            }
        }
    }
}
