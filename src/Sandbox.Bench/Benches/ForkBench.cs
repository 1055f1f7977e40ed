using System.Diagnostics;
using System.Globalization;
using Sandbox.Bench.Machines;
using Sandbox.Bench.Measuring;
using Sandbox.Bench.Report;
using Sandbox.Bench.Serving;
using Sandbox.Isolation.Images;

namespace Sandbox.Bench.Benches;

/// <summary>Copies of a live session: how long until all of them run, and the memory they add to the machine.</summary>
internal sealed class ForkBench : IBench
{
    private const string Target = "added guest memory of 20 forks ≤ 1.2 × the pages they wrote themselves";
    private const int DirtyMiB = 32;
    private static readonly int[] Counts = [1, 5, 20];

    public string Name => "fork";

    public string Summary => "1, 5 and 20 running copies of a live session: time, added memory";

    public IReadOnlyList<string> Targets => [Target];

    public async Task<BenchResult> RunAsync(BenchContext context, CancellationToken cancellationToken)
    {
        var memory = (long)TemplateImage.Load(context.Image).Sizes.MemoryMiB << 20;
        await using var server = await PrivateServer.StartAsync(context, new Dictionary<string, string> { ["warmPool"] = "1" }, null, cancellationToken);
        await server.WaitForPoolAsync(cancellationToken);
        var source = SandboxHttp.Text(await server.Http.CreateAsync(cancellationToken), "id");
        await server.Http.RunWellAsync(source, SandboxHttp.Python(DirtyMemory.Code(DirtyMiB)), cancellationToken);
        var rows = new List<Row>();
        Added added = new(0, 0, 0, 0, 0, 0);
        foreach (var count in Counts)
        {
            // As many as there is memory for, should each of them write all of its own: a bench must not swap.
            var fits = (int)Math.Min(count, MachineMemory.Available() / 10 * 9 / memory);
            if (fits < count)
            {
                throw new BenchException($"{count} forks of {memory >> 20} MiB do not fit into the memory that is free");
            }

            await server.WaitForPoolAsync(cancellationToken);
            (var time, added) = await OneAsync(server, source, count, memory, cancellationToken);
            context.Say($"{count} forks: {time.TotalMilliseconds:0} ms, added {added.Total >> 20} MiB, written {added.Written >> 20} MiB");
            rows.AddRange(
            [
                new Row($"{count} forks: until all run", "ms", Distribution.OfMilliseconds([time])),
                new Row($"{count} forks: pages of guest memory they wrote", "MiB", MiB(added.Written)),
                new Row($"{count} forks: guest memory they added", "MiB", MiB(added.Total)),
                new Row($"{count} forks: of it files that several share", "MiB", MiB(added.Files)),
                new Row($"{count} forks: of it the source's own, which it now shares", "MiB", MiB(added.Source)),
                new Row($"{count} forks: guest memory in their page tables (PSS)", "MiB", MiB(added.Mapped)),
                new Row($"{count} forks: QEMU processes, all their memory (PSS)", "MiB", MiB(added.Processes)),
                new Row($"{count} forks: memory of the machine that went", "MiB", MiB(added.Machine)),
            ]);
        }

        var ratio = (double)added.Total / added.Written;
        return new BenchResult
        {
            Name = Name,
            Headline = new Figure("added_bytes", added.Total),
            Baseline = new Figure($"bytes of private dirty pages of guest memory, {Counts[^1]} forks", added.Written),
            Ratio = ratio,
            Verdicts = [new Verdict(Target, ratio, 1.2)],
            Rows = rows,
            Notes = ["the last two rows hold QEMU's own memory too (translated code, buffers, page tables), and the last one whatever else the machine did"],
        };
    }

    private static async Task<(TimeSpan Time, Added Added)> OneAsync(PrivateServer server, string source, int count, long memory, CancellationToken cancellationToken)
    {
        var runtime = new RuntimeDirectory(server.HostId);
        var (files, own) = Look(runtime, source, memory);
        var before = MachineMemory.Available();
        var began = Stopwatch.GetTimestamp();
        var forks = await server.Http.ForkAsync(source, count, cancellationToken);
        var time = Stopwatch.GetElapsedTime(began);
        try
        {
            foreach (var fork in forks)
            {
                // It works, and has written the pages that working takes.
                var said = (await server.Http.RunWellAsync(fork, SandboxHttp.Python("print(len(b) >> 20)"), cancellationToken)).Said.ToString().Trim();
                if (said != string.Create(CultureInfo.InvariantCulture, $"{DirtyMiB}"))
                {
                    throw new BenchException($"a fork has not the variable of its source but '{said}'");
                }
            }

            var machine = before - MachineMemory.Available();
            var machines = runtime.Machines().Where(m => forks.Contains(m.SessionId)).ToList();
            if (machines.Count != count)
            {
                throw new BenchException($"{count} forks have {machines.Count} machines");
            }

            var mappings = machines.ConvertAll(m => MachineMemory.MappingOf(m.Pid, memory));
            var (filesThen, ownThen) = Look(runtime, source, memory);
            return (time, new Added(mappings.Sum(m => m.PrivateDirty), filesThen - files, ownThen - own, mappings.Sum(m => m.Proportional), machines.Sum(m => MachineMemory.Proportional(m.Pid)), machine));
        }
        finally
        {
            await Task.WhenAll(forks.Select(server.Http.DeleteQuietlyAsync));
        }
    }

    /// <summary>Files in memory behind the guest memory of all machines of the host, each once and whole; and what the source has for itself.</summary>
    private static (long Files, long Own) Look(RuntimeDirectory runtime, string source, long memory)
    {
        var machines = runtime.Machines();
        var files = machines.SelectMany(m => MachineMemory.MappingOf(m.Pid, memory).Files.Select(f => (m.Pid, Mapping: f))).DistinctBy(f => f.Mapping.File).Sum(f => MachineMemory.FileOf(f.Pid, f.Mapping));
        return (files, MachineMemory.MappingOf(machines.Single(m => m.SessionId == source).Pid, memory).PrivateDirty);
    }

    private static Distribution MiB(long bytes) => Distribution.One(bytes / 1048576.0);

    /// <summary>In bytes.</summary>
    /// <param name="Written">Private dirty pages of the forks' guest memory.</param>
    /// <param name="Files">By how much the files in memory behind the guest memory of the host's machines grew: the state they were forked from, where it is not the golden snapshot alone.</param>
    /// <param name="Source">By how much the private dirty pages of the session they were forked from grew; negative where it gave them up for shared ones.</param>
    /// <param name="Mapped">PSS of their guest memory: what of golden memory and base they have touched counts by its share, what nobody has touched not at all.</param>
    /// <param name="Processes">PSS of their processes.</param>
    /// <param name="Machine">By how much the machine's available memory fell.</param>
    private sealed record Added(long Written, long Files, long Source, long Mapped, long Processes, long Machine)
    {
        public long Total => Written + Files + Source;
    }
}
