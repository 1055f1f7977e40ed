using System.Collections.Concurrent;
using System.Diagnostics;
using System.Globalization;
using System.Text.Json.Nodes;
using Sandbox.Abstractions;
using Sandbox.Bench.Machines;
using Sandbox.Bench.Measuring;
using Sandbox.Bench.Report;
using Sandbox.Bench.Serving;
using Sandbox.Client;

namespace Sandbox.Bench.Benches;

/// <summary>Output: a flood to a follower against the same flood straight from the guest's channel, and what following adds to the latency of a line.</summary>
internal sealed class StreamBench : IBench
{
    private const string HttpTarget = "flood to an HTTP follower ≥ 0.8 × raw channel";
    private const string ClientTarget = "flood to a .NET client ≥ 0.8 × raw channel";
    private const string LatencyTarget = "added latency of a line p50 ≤ 2 ms";
    private const int LineEveryMs = 20;
    private const int Lines = 200;

    /// <summary>Bytes of the flood. An emulated machine says some MiB a second: the full size takes minutes there.</summary>
    private const long ShortFlood = 16L << 20;
    private const long FullFlood = 64L << 20;

    public string Name => "stream";

    public string Summary => "output to followers over HTTP and from C#: throughput, added latency of a line";

    public IReadOnlyList<string> Targets => [HttpTarget, ClientTarget, LatencyTarget];

    public async Task<BenchResult> RunAsync(BenchContext context, CancellationToken cancellationToken)
    {
        var rounds = context.SamplesOr(5);
        var flood = context.Full ? FullFlood : ShortFlood;
        var clock = new StampingClock();
        await using var own = new OwnBackend(context);
        await own.GoldenAsync(cancellationToken);
        await using var server = await PrivateServer.StartAsync(context, new Dictionary<string, string> { ["warmPool"] = "0" }, clock.AddTo, cancellationToken);
        await using var machine = await own.Backend.StartAsync(own.Spec(), cancellationToken);
        var id = SandboxHttp.Text(await server.Http.CreateAsync(cancellationToken), "id");
        var session = new SandboxClient(server.Cluster, TenantContext.Development).GetSession(id);

        var (raw, http, client) = (new List<double>(), new List<double>(), new List<double>());
        for (var i = 0; i < rounds; i++)
        {
            raw.Add(await RateAsync(flood, () => RawAsync(machine, flood, cancellationToken)));
            http.Add(await RateAsync(flood, () => HttpAsync(server.Http, id, flood, cancellationToken)));
            client.Add(await RateAsync(flood, () => ClientAsync(session, flood, cancellationToken)));
            context.Say($"flood {i + 1}/{rounds}: raw {raw[^1]:0.0}, HTTP {http[^1]:0.0}, client {client[^1]:0.0} MiB/s");
        }

        var (httpAdded, clientAdded) = await LatencyAsync(server, session, id, clock, Lines, cancellationToken);
        var (rawRate, httpRate, clientRate) = (Distribution.Of(raw), Distribution.Of(http), Distribution.Of(client));
        return new BenchResult
        {
            Name = Name,
            Headline = new Figure("mib_per_s", httpRate.Median),
            Baseline = new Figure("MiB/s of the same flood from the guest's channel, each event acknowledged, no log", rawRate.Median),
            Ratio = httpRate.Median / rawRate.Median,
            Verdicts =
            [
                new Verdict(HttpTarget, httpRate.Median / rawRate.Median, 0.8, AtLeast: true),
                new Verdict(ClientTarget, clientRate.Median / rawRate.Median, 0.8, AtLeast: true),
                new Verdict(LatencyTarget, Math.Max(httpAdded.Median, clientAdded.Median), 2),
            ],
            Rows =
            [
                new Row("raw channel", "MiB/s", rawRate),
                new Row("HTTP, server-sent events", "MiB/s", httpRate),
                new Row(".NET client", "MiB/s", clientRate),
                new Row("added latency of a line, HTTP", "ms", httpAdded),
                new Row("added latency of a line, .NET client", "ms", clientAdded),
            ],
        };
    }

    private static string[] Flood(long size) => ["/bin/sh", "-c", string.Create(CultureInfo.InvariantCulture, $"head -c {size} /dev/zero | tr '\\0' x")];

    /// <summary>MiB a second, from the call that starts the flood to the last of it.</summary>
    private static async Task<double> RateAsync(long size, Func<Task<long>> flood)
    {
        var began = Stopwatch.GetTimestamp();
        var bytes = await flood();
        var seconds = Stopwatch.GetElapsedTime(began).TotalSeconds;
        return bytes == size ? bytes / seconds / 1048576 : throw new BenchException($"{bytes} bytes of a flood of {size} arrived");
    }

    private static async Task<long> RawAsync(Isolation.Backends.IMicroVm machine, long size, CancellationToken cancellationToken)
    {
        long bytes = 0;
        await GuestRuns.RunAsync(machine.Guest, Flood(size), n => bytes += n, cancellationToken);
        return bytes;
    }

    private static async Task<long> HttpAsync(SandboxHttp http, string id, long size, CancellationToken cancellationToken)
    {
        var body = SandboxHttp.Argv(Flood(size));
        body["outputLimitBytes"] = 2 * size;
        return (await http.RunWellAsync(id, body, cancellationToken)).TextBytes;
    }

    private static async Task<long> ClientAsync(SandboxSession session, long size, CancellationToken cancellationToken)
    {
        var execution = await session.StartAsync(new ExecutionRequest { Argv = Flood(size), OutputLimitBytes = 2 * size }, null, cancellationToken);
        long bytes = 0;
        await foreach (var e in execution.ReadOutputAsync(1, cancellationToken))
        {
            bytes += e.Kind == OutputKind.Stdout ? e.Data.Length : 0;
        }

        return bytes;
    }

    private static async Task<(Distribution Http, Distribution Client)> LatencyAsync(
        PrivateServer server, SandboxSession session, string id, StampingClock clock, int lines, CancellationToken cancellationToken)
    {
        // Python that is there already sleeps more evenly than a shell that starts a program for each line; unbuffered, so that a line leaves when it is printed.
        var code = string.Create(CultureInfo.InvariantCulture, $"import time\nfor i in range({lines}):\n    print(i, flush=True)\n    time.sleep({LineEveryMs / 1000.0})");
        var http = new ConcurrentDictionary<long, long>();
        var client = new ConcurrentDictionary<long, long>();
        var events = new ConcurrentDictionary<long, DateTimeOffset>();
        var started = new TaskCompletionSource<string>(TaskCreationOptions.RunContinuationsAsynchronously);
        var following = FollowAsync();
        var run = await server.Http.RunAsync(
            id,
            new JsonObject { ["argv"] = new JsonArray("python3", "-c", code) },
            (seq, at) =>
            {
                http[seq] = at;
                started.TrySetResult("");
            },
            cancellationToken);
        if (run.ExitCode != 0)
        {
            throw new BenchException($"the lines were not printed: {run.Said}");
        }

        await following;
        return (Added(http), Added(client));

        async Task FollowAsync()
        {
            await started.Task.WaitAsync(cancellationToken);
            var newest = (await session.ListExecutionsAsync(1, cancellationToken))[0];
            await foreach (var e in (await session.GetExecutionAsync(newest.Id, cancellationToken)).ReadOutputAsync(1, cancellationToken))
            {
                var now = Stopwatch.GetTimestamp();
                if (e.Kind == OutputKind.Stdout)
                {
                    (client[e.Seq], events[e.Seq]) = (now, e.Time);
                }
            }
        }

        // The first lines came before the second follower was there.
        Distribution Added(ConcurrentDictionary<long, long> seen) => Distribution.OfMilliseconds(
            seen.Where(s => s.Key > lines / 10).Select(s => Stopwatch.GetElapsedTime(clock.ReadFor(events[s.Key]), s.Value)));
    }
}
