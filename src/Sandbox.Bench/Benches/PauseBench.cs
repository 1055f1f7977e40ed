using System.Diagnostics;
using Microsoft.Extensions.DependencyInjection;
using Sandbox.Abstractions;
using Sandbox.Bench.Machines;
using Sandbox.Bench.Measuring;
using Sandbox.Bench.Report;
using Sandbox.Bench.Serving;
using Sandbox.Snapshots;

namespace Sandbox.Bench.Benches;

/// <summary>Pause and resume as memory changes: time, and what is stored for each changed byte.</summary>
internal sealed class PauseBench : IBench
{
    private const string Target = "stored bytes ≤ 1.1 × zstd-1 of the changed bytes, at every size";
    private static readonly int[] Sizes = [8, 16, 32, 64, 128];

    public string Name => "pause";

    public string Summary => "pause and resume with 8 to 128 MiB of changed memory: time, stored bytes";

    public IReadOnlyList<string> Targets => [Target];

    public async Task<BenchResult> RunAsync(BenchContext context, CancellationToken cancellationToken)
    {
        var repeats = context.SamplesOr(3);
        await using var server = await PrivateServer.StartAsync(context, new Dictionary<string, string> { ["warmPool"] = "1" }, null, cancellationToken);
        var store = server.Server.Services.GetService<SnapshotStore>() ?? throw new BenchException("this server has no snapshot store: it cannot pause sessions yet");
        var rows = new List<Row>();
        var (worst, pauses, stored, plain) = (0.0, Distribution.One(0), 0.0, 0.0);
        foreach (var size in Sizes)
        {
            var samples = new List<Sample>();
            for (var i = 0; i < repeats; i++)
            {
                await server.WaitForPoolAsync(cancellationToken);
                samples.Add(await OneAsync(server.Http, store, size, cancellationToken));
                context.Say($"{size} MiB, {i + 1}/{repeats}: pause {samples[^1].Pause.TotalMilliseconds:0} ms, resume {samples[^1].Resume.TotalMilliseconds:0} ms, stored {samples[^1].Stored >> 20} MiB");
            }

            pauses = Distribution.OfMilliseconds(samples.Select(s => s.Pause));
            (stored, plain) = (Distribution.Of(samples.Select(s => (double)s.Stored)).Median, Distribution.Of(samples.Select(s => (double)s.Plain)).Median);
            worst = Math.Max(worst, samples.Max(s => (double)s.Stored / s.Plain));
            rows.AddRange(
            [
                new Row($"{size} MiB filled: pause", "ms", pauses),
                new Row($"{size} MiB filled: resume", "ms", Distribution.OfMilliseconds(samples.Select(s => s.Resume))),
                new Row($"{size} MiB filled: changed memory and disk", "MiB", MiB(samples.Select(s => s.Changed))),
                new Row($"{size} MiB filled: zstd-1 of it", "MiB", MiB(samples.Select(s => s.Plain))),
                new Row($"{size} MiB filled: stored", "MiB", MiB(samples.Select(s => s.Stored))),
            ]);
        }

        return new BenchResult
        {
            Name = Name,
            Headline = new Figure("stored_bytes", stored),
            Baseline = new Figure($"bytes of zstd-1 of the changed bytes, at {Sizes[^1]} MiB", plain),
            Ratio = worst,
            Verdicts = [new Verdict(Target, worst, 1.1)],
            Rows = rows,
            Notes = ["the ratio is the worst of all sizes and samples"],
        };
    }

    private static async Task<Sample> OneAsync(SandboxHttp http, SnapshotStore store, int size, CancellationToken cancellationToken)
    {
        var id = SandboxHttp.Text(await http.CreateAsync(cancellationToken), "id");
        try
        {
            await http.RunWellAsync(id, SandboxHttp.Python(DirtyMemory.Code(size)), cancellationToken);
            var began = Stopwatch.GetTimestamp();
            await http.PauseAsync(id, cancellationToken);
            var pause = Stopwatch.GetElapsedTime(began);
            var (changed, plain, stored) = await LookAsync(store, id, cancellationToken);
            began = Stopwatch.GetTimestamp();
            await http.ResumeAsync(id, cancellationToken);
            var resume = Stopwatch.GetElapsedTime(began);
            var still = await http.RunWellAsync(id, SandboxHttp.Python("print(len(b) >> 20)"), cancellationToken);
            return still.Said.ToString().Trim() == $"{size}" ? new Sample(pause, resume, changed, plain, stored) : throw new BenchException($"after the resume the variable is '{still.Said}'");
        }
        finally
        {
            await http.DeleteQuietlyAsync(id);
        }
    }

    /// <summary>What the store says of the snapshot, and what its content takes when it is compressed plainly.</summary>
    private static async Task<(long Changed, long Plain, long Stored)> LookAsync(SnapshotStore store, string session, CancellationToken cancellationToken)
    {
        await foreach (var snapshot in store.ListAsync(TenantContext.Development, cancellationToken))
        {
            using var reader = await store.OpenAsync(TenantContext.Development, snapshot, cancellationToken);
            if (reader.Info.SessionId == session && reader.Info.Machine is not null)
            {
                var (bytes, compressed) = await PlainCompression.OfAsync(reader, cancellationToken);
                return (bytes, compressed, reader.Info.StoredBytes);
            }
        }

        throw new BenchException("the paused session has no snapshot in the store");
    }

    private static Distribution MiB(IEnumerable<long> bytes) => Distribution.Of(bytes.Select(b => b / 1048576.0));

    private sealed record Sample(TimeSpan Pause, TimeSpan Resume, long Changed, long Plain, long Stored);
}
