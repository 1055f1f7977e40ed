using System.Diagnostics;
using System.Security.Cryptography;
using Microsoft.Extensions.Logging.Abstractions;
using Sandbox.Bench.Machines;
using Sandbox.Bench.Measuring;
using Sandbox.Bench.Report;
using Sandbox.Isolation.Backends;
using Sandbox.Snapshots;
using Sandbox.Snapshots.Blobs;
using Sandbox.Snapshots.Keys;

namespace Sandbox.Bench.Benches;

/// <summary>A saved machine out of the snapshot store to its first byte of output, against QEMU loading a plain saved state of the same machine.</summary>
internal sealed class RestoreBench : IBench
{
    private const string Target = "restore and first byte ≤ 1.15 × raw incoming and first byte";
    private const string Tenant = "bench";
    private const string Snapshot = "bench";

    /// <summary>What the machine holds beyond its golden snapshot.</summary>
    private const int DirtyMiB = 32;

    public string Name => "restore";

    public string Summary => "bring a saved machine back from the snapshot store until it has answered";

    public IReadOnlyList<string> Targets => [Target];

    public async Task<BenchResult> RunAsync(BenchContext context, CancellationToken cancellationToken)
    {
        var samples = context.SamplesOr(15);
        await using var own = new OwnBackend(context);
        await using var recipe = await RawRecipe.TakeAsync(own, cancellationToken);
        var store = new SnapshotStore(
            new FileBlobStore(Path.Combine(own.Directory, "snapshots")), new MasterKeyProvider(RandomNumberGenerator.GetBytes(IKeyProvider.KeyBytes)), TimeProvider.System, NullLogger<SnapshotStore>.Instance);
        context.Say("saving the machine");
        var (report, info) = await SaveAsync(own, store, cancellationToken);
        await using var saved = await RawMachine.CloneAsync(recipe, cancellationToken);
        await GuestRuns.PythonAsync(saved.Guest, DirtyMemory.Code(DirtyMiB), cancellationToken);
        await GuestRuns.SettleAsync(saved.Guest, cancellationToken);
        await saved.SaveAsync(cancellationToken);

        var raw = new List<TimeSpan>();
        var through = new List<(TimeSpan Ready, TimeSpan Answered)>();
        for (var i = -2; i < samples; i++)
        {
            var bare = await RawAsync(recipe, saved, cancellationToken);
            var ours = await ThroughAsync(own, store, cancellationToken);
            if (i >= 0)
            {
                raw.Add(bare);
                through.Add(ours);
                context.Say($"{i + 1}/{samples}: raw {bare.TotalMilliseconds:0} ms, Sandbox {ours.Answered.TotalMilliseconds:0} ms");
            }
        }

        var (all, bareAll) = (Distribution.OfMilliseconds(through.Select(t => t.Answered)), Distribution.OfMilliseconds(raw));
        var ratio = all.Median / bareAll.Median;
        return new BenchResult
        {
            Name = Name,
            Headline = new Figure("p50_ms", all.Median),
            Baseline = new Figure("QEMU -incoming of a plain full state in a file, and first byte", bareAll.Median),
            Ratio = ratio,
            Verdicts = [new Verdict(Target, ratio, 1.15)],
            Rows =
            [
                new Row("raw: -incoming + first byte", "ms", bareAll),
                new Row("Sandbox: restore + first byte", "ms", all),
                new Row("  restore until user code may run", "ms", Distribution.OfMilliseconds(through.Select(t => t.Ready))),
                new Row("raw state in a file", "MiB", Distribution.One(new FileInfo(saved.Saved).Length / 1048576.0)),
                new Row("saved memory and disk", "MiB", Distribution.One((report.MemoryBytes + report.DiskBytes) / 1048576.0)),
                new Row("stored", "MiB", Distribution.One(info.StoredBytes / 1048576.0)),
            ],
        };
    }

    private static async Task<(SaveReport Report, SnapshotInfo Info)> SaveAsync(OwnBackend own, SnapshotStore store, CancellationToken cancellationToken)
    {
        await using var machine = await own.Backend.StartAsync(own.Spec(), cancellationToken);
        await GuestRuns.PythonAsync(machine.Guest, DirtyMemory.Code(DirtyMiB), cancellationToken);
        await GuestRuns.SettleAsync(machine.Guest, cancellationToken);
        using var writer = await store.BeginAsync(new SnapshotRequest(Tenant, Snapshot, "bench", null), cancellationToken);
        var report = await machine.SaveAsync(writer, SaveMode.StayStopped, _ => Task.CompletedTask, cancellationToken);
        return (report, await writer.CommitAsync(cancellationToken));
    }

    private static async Task<TimeSpan> RawAsync(RawRecipe recipe, RawMachine saved, CancellationToken cancellationToken)
    {
        long began = 0;
        await using var machine = await RawMachine.RestoreAsync(recipe, saved.Disk, saved.Saved, () => began = Stopwatch.GetTimestamp(), cancellationToken);
        return Stopwatch.GetElapsedTime(began, await GuestRuns.RunAsync(machine.Guest, GuestRuns.Echo, null, cancellationToken));
    }

    private static async Task<(TimeSpan Ready, TimeSpan Answered)> ThroughAsync(OwnBackend own, SnapshotStore store, CancellationToken cancellationToken)
    {
        var began = Stopwatch.GetTimestamp();
        using var reader = await store.OpenAsync(Tenant, Snapshot, cancellationToken);
        var spec = own.Spec(new MachineRestore(reader, []));
        await using var machine = await own.Backend.StartAsync(spec, cancellationToken);
        if (machine.StartReport.Method != "restore")
        {
            throw new BenchException($"the backend made a machine by '{machine.StartReport.Method}' where it was asked to restore one; it cannot restore yet");
        }

        var ready = Stopwatch.GetElapsedTime(began);
        var answered = Stopwatch.GetElapsedTime(began, await GuestRuns.RunAsync(machine.Guest, GuestRuns.Echo, null, cancellationToken));
        File.Delete(spec.DiskPath);
        return (ready, answered);
    }
}
