using Sandbox.Isolation.Backends;

namespace Sandbox.Snapshots.Tests;

/// <summary>Saved machines as the tests make and compare them.</summary>
internal sealed record SavedMachine(byte[] Devices, SortedDictionary<long, byte[]> Memory, SortedDictionary<long, byte[]> Disk)
{
    public const int MemoryPages = 4096;
    public const int DiskBlocks = 256;

    public static readonly MachineFacts Facts = new("test", "fingerprint", "golden", MemoryPages * MachineBlock.MemoryBlock, (DiskBlocks * MachineBlock.DiskBlock) - 1000);

    public static SavedMachine Random(int seed, int pages = 300, int blocks = 10)
    {
        var random = new Random(seed);
        var machine = new SavedMachine(Bytes(random, 70_000), [], []);
        for (var i = 0; i < pages; i++)
        {
            machine.Memory[random.Next(MemoryPages)] = random.Next(4) == 0 ? [] : Bytes(random, MachineBlock.MemoryBlock);
        }

        for (var i = 0; i < blocks; i++)
        {
            machine.Disk[random.Next(DiskBlocks - 1)] = random.Next(4) == 0 ? [] : Bytes(random, MachineBlock.DiskBlock);
        }

        machine.Disk[DiskBlocks - 1] = Bytes(random, MachineBlock.DiskBlock - 1000);
        return machine;
    }

    public async Task SaveAsync(IMachineSink sink, CancellationToken cancellationToken)
    {
        await sink.BeginAsync(Facts, cancellationToken);
        await sink.WriteDevicesAsync(Devices, cancellationToken);
        var buffer = new byte[MachineBlock.DiskBlock];
        foreach (var (index, data) in Memory)
        {
            // The caller's buffer is used again for the next block, as a real one's is.
            data.CopyTo(buffer, 0);
            await sink.WriteMemoryAsync(new MachineBlock(index, buffer.AsMemory(0, data.Length)), cancellationToken);
        }

        foreach (var (index, data) in Disk)
        {
            data.CopyTo(buffer, 0);
            await sink.WriteDiskAsync(new MachineBlock(index, buffer.AsMemory(0, data.Length)), cancellationToken);
        }
    }

    public static async Task<SavedMachine> LoadAsync(IMachineSource source, CancellationToken cancellationToken)
    {
        var machine = new SavedMachine(await source.ReadDevicesAsync(cancellationToken), [], []);
        await foreach (var block in source.ReadMemoryAsync(cancellationToken))
        {
            machine.Memory.Add(block.Index, block.Data.ToArray());
        }

        await foreach (var block in source.ReadDiskAsync(cancellationToken))
        {
            machine.Disk.Add(block.Index, block.Data.ToArray());
        }

        return machine;
    }

    public bool Same(SavedMachine other) => Devices.SequenceEqual(other.Devices) && Same(Memory, other.Memory) && Same(Disk, other.Disk);

    private static bool Same(SortedDictionary<long, byte[]> one, SortedDictionary<long, byte[]> other) =>
        one.Keys.SequenceEqual(other.Keys) && one.All(b => b.Value.SequenceEqual(other[b.Key]));

    private static byte[] Bytes(Random random, int length)
    {
        var bytes = new byte[length];
        random.NextBytes(bytes);
        return bytes;
    }
}
