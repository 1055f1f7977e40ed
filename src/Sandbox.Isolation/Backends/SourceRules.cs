using System.Runtime.CompilerServices;

namespace Sandbox.Isolation.Backends;

/// <summary>What a source of a saved machine may give: whole blocks, ascending, inside of what they belong to. Anything else must not be written anywhere.</summary>
public static class SourceRules
{
    /// <summary>Largest state of CPU and devices, in bytes. A usual one has 70 KB.</summary>
    public const int MaxDevices = 16 << 20;

    /// <exception cref="InvalidDataException">The source breaks a rule.</exception>
    public static IAsyncEnumerable<MachineBlock> MemoryOf(IMachineSource source, CancellationToken cancellationToken) =>
        CheckAsync(source.ReadMemoryAsync(cancellationToken), "memory", source.Facts.MemoryBytes, MachineBlock.MemoryBlock, cancellationToken);

    /// <exception cref="InvalidDataException">The source breaks a rule.</exception>
    public static IAsyncEnumerable<MachineBlock> DiskOf(IMachineSource source, CancellationToken cancellationToken) =>
        CheckAsync(source.ReadDiskAsync(cancellationToken), "disk", source.Facts.DiskBytes, MachineBlock.DiskBlock, cancellationToken);

    /// <exception cref="InvalidDataException">The source breaks a rule.</exception>
    public static async Task<byte[]> DevicesOfAsync(IMachineSource source, CancellationToken cancellationToken)
    {
        var devices = await source.ReadDevicesAsync(cancellationToken);
        return devices.Length is > 0 and <= MaxDevices ? devices : throw new InvalidDataException($"The saved state of its devices has {devices.Length} bytes; allowed are 1 to {MaxDevices}.");
    }

    private static async IAsyncEnumerable<MachineBlock> CheckAsync(
        IAsyncEnumerable<MachineBlock> blocks, string what, long length, int size, [EnumeratorCancellation] CancellationToken cancellationToken)
    {
        var last = -1L;
        await foreach (var block in blocks.WithCancellation(cancellationToken))
        {
            if (block.Index <= last || block.Index >= (length + size - 1) / size || (block.Data.Length != 0 && block.Data.Length != Math.Min(size, length - (block.Index * size))))
            {
                throw new InvalidDataException($"The saved {what} has block {block.Index} of {block.Data.Length} bytes behind block {last}; it is {length} bytes in blocks of {size}.");
            }

            last = block.Index;
            yield return block;
        }
    }
}
