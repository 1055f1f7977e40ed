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

    /// <summary>Maps it and returns the runs that were not: there were too many.</summary>
    /// <exception cref="IsolationException">It cannot be done here, or was done in part.</exception>
    public async Task<IReadOnlyList<(PageRun Run, int Position)>> MapAsync(QmpClient qmp, int pid, ProcessMemory memory, MemoryLayer layer, CancellationToken cancellationToken)
    {
        var runs = layer.Runs().ToList();
        List<(PageRun Run, int Position)> left = [];
        if (runs.Count > MostRuns)
        {
            runs.Sort((a, b) => b.Run.Count.CompareTo(a.Run.Count));
            left = runs[MostRuns..];
            runs.RemoveRange(MostRuns, left.Count);
        }

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

        return left;
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
