using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Qemu.Golden;

namespace Sandbox.Isolation.Qemu.Memory;

/// <summary>What a machine maps privately: a golden snapshot's memory, and over it, where it shares more than that with others, a layer of pages of a saved machine.</summary>
/// <param name="Golden">What is mapped first, and what saved machines are differences from.</param>
/// <param name="Layer">What is mapped over it, or <see langword="null"/>.</param>
internal sealed record SharedMemoryBase(LoadedGolden Golden, MemoryLayer? Layer)
{
    /// <summary>A golden snapshot's own.</summary>
    public static SharedMemoryBase Of(LoadedGolden golden) => new(golden, null);

    /// <summary>A saved machine's.</summary>
    public static async Task<SharedMemoryBase> BuildAsync(LoadedGolden golden, IMachineSource source, CancellationToken cancellationToken)
    {
        using var layer = new LayerWriter();
        await foreach (var block in SourceRules.MemoryOf(source, cancellationToken))
        {
            var room = layer.Add(new PageRun(block.Index, 1));
            if (block.Data.IsEmpty)
            {
                room.Clear();
            }
            else
            {
                block.Data.Span.CopyTo(room);
            }
        }

        return new SharedMemoryBase(golden, layer.Seal());
    }
}
