using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Qemu.Qmp;
using Sandbox.Qemu.Mapper;

namespace Sandbox.Isolation.Qemu.Memory;

/// <summary>
/// Has a QEMU that stands still map a layer privately over its guest's memory. Where the machine has the very same bytes, nothing changes for it whether all of that is done, a part or nothing: what is not mapped stays
/// what it was.
/// </summary>
internal sealed class LayerMapping(MapperProcess mapper)
{
    /// <summary>A run is up to two more mappings of the process, which the kernel lets have 65,530 (vm.max_map_count). The longest runs are mapped.</summary>
    public const int MostRuns = 16_000;

    private const string DescriptorName = "sandbox-layer";

    /// <summary>Makes the next <see cref="MapAsync"/> quick.</summary>
    /// <exception cref="IsolationException">It cannot be done here.</exception>
    public Task PrepareAsync(CancellationToken cancellationToken) => mapper.PrepareAsync(cancellationToken);

    /// <summary>Maps runs of at least so many pages, and returns those that were not: too short, or too many.</summary>
    /// <exception cref="IsolationException">It cannot be done here, or was done in part.</exception>
    public async Task<IReadOnlyList<(PageRun Run, int Position)>> MapAsync(QmpClient qmp, int pid, ProcessMemory memory, MemoryLayer layer, int shortest, CancellationToken cancellationToken)
    {
        List<(PageRun Run, int Position)> all = [.. layer.Runs().OrderByDescending(r => r.Run.Count)];
        var runs = all.GetRange(0, Math.Min(MostRuns, all.Count(r => r.Run.Count >= shortest)));

        await qmp.ExecuteAsync("getfd", new Dictionary<string, object> { ["fdname"] = DescriptorName }, layer.Memory.File, cancellationToken);
        try
        {
            var pieces = runs.ConvertAll(r => new MapPiece(memory.AddressOf(r.Run.First), r.Run.Count * ProcessMemory.Page, (long)r.Position * ProcessMemory.Page));
            await mapper.MapAsync(new MapOrder(pid, Find(pid, layer.Memory.Name), pieces), cancellationToken);
        }
        finally
        {
            // What is mapped needs no descriptor; and a layer that nobody maps any more is to go.
            await qmp.ExecuteAsync("closefd", new Dictionary<string, object> { ["fdname"] = DescriptorName }, CancellationToken.None);
        }

        return all[runs.Count..];
    }

    private static int Find(int pid, string name)
    {
        foreach (var link in Directory.EnumerateFiles($"/proc/{pid}/fd"))
        {
            if (new FileInfo(link).LinkTarget is { } target && target.StartsWith($"/memfd:{name}", StringComparison.Ordinal))
            {
                return int.Parse(Path.GetFileName(link), System.Globalization.CultureInfo.InvariantCulture);
            }
        }

        throw new IsolationException($"Process {pid} did not take the descriptor of a layer of memory.");
    }
}
