using System.Buffers.Binary;
using System.Text.Json;
using Sandbox.Guest.Protocol;
using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Null.Interpreter;
using Sandbox.Isolation.Null.State;

namespace Sandbox.Isolation.Null.Machine;

/// <summary>
/// How a machine looks when it is saved: its state in the first pages of memory, random pages at the memory's end, the disk's file as the disk. What stands for the devices says what all of it must
/// be, so that a store that gives back a wrong byte is found out.
/// </summary>
internal static class SavedForm
{
    private const int Format = 1;

    /// <summary>Changes with the format of what is saved.</summary>
    public const string Fingerprint = "null-1";

    public static MachineFacts Facts(MicroVmSpec spec, int diskBytes) => new(NullBackend.BackendName, Fingerprint, null, (long)spec.MemoryMiB << 20, diskBytes);

    public static async Task<SaveReport> WriteAsync(MachineState state, byte[] disk, MicroVmSpec spec, int dirtyPages, IMachineSink sink, CancellationToken cancellationToken)
    {
        var memory = JsonSerializer.SerializeToUtf8Bytes(state, StateJson.Default.MachineState);
        var facts = Facts(spec, disk.Length);
        var statePages = (memory.Length + MachineBlock.MemoryBlock - 1) / MachineBlock.MemoryBlock;
        var firstDirty = (facts.MemoryBytes / MachineBlock.MemoryBlock) - dirtyPages;
        if (statePages > firstDirty)
        {
            throw new IsolationException($"MicroVM {spec.Owner.VmId} has {memory.Length} bytes of state, which do not fit its {spec.MemoryMiB} MiB of memory.");
        }

        // Other random pages each time, and not the machine's own affair: it would have to keep them.
        var devices = new DeviceState(Format, memory.Length, NullDisk.Hash(memory), dirtyPages, Random.Shared.Next(), NullDisk.Hash(disk));
        var memo = new ChannelMemo(Format, [.. state.Executions.Select(e => StartExecution.Parser.ParseFrom(e.Request).ExecutionId)]);
        await sink.BeginAsync(facts, cancellationToken).ConfigureAwait(false);
        await sink.WriteDevicesAsync(JsonSerializer.SerializeToUtf8Bytes(devices, StateJson.Default.DeviceState), cancellationToken).ConfigureAwait(false);
        await sink.WriteGuestAsync(JsonSerializer.SerializeToUtf8Bytes(memo, StateJson.Default.ChannelMemo), cancellationToken).ConfigureAwait(false);
        for (var page = 0; page < statePages; page++)
        {
            var content = memory.AsMemory(page * MachineBlock.MemoryBlock);
            var whole = new byte[MachineBlock.MemoryBlock];
            content[..Math.Min(content.Length, whole.Length)].CopyTo(whole);
            await sink.WriteMemoryAsync(new MachineBlock(page, whole), cancellationToken).ConfigureAwait(false);
        }

        for (var page = 0; page < dirtyPages; page++)
        {
            await sink.WriteMemoryAsync(new MachineBlock(firstDirty + page, Dirty(devices.DirtySeed, page)), cancellationToken).ConfigureAwait(false);
        }

        for (var offset = 0; offset < disk.Length; offset += MachineBlock.DiskBlock)
        {
            var block = disk.AsMemory(offset, Math.Min(MachineBlock.DiskBlock, disk.Length - offset));
            await sink.WriteDiskAsync(new MachineBlock(offset / MachineBlock.DiskBlock, block), cancellationToken).ConfigureAwait(false);
        }

        return new SaveReport(TimeSpan.Zero, (long)(statePages + dirtyPages) * MachineBlock.MemoryBlock, disk.Length);
    }

    /// <summary>Reads all of a saved machine and compares it with what was saved.</summary>
    /// <exception cref="IsolationException">It is of another backend or size, or not what was saved.</exception>
    public static async Task<(MachineState State, byte[] Disk)> ReadAsync(IMachineSource source, MicroVmSpec spec, CancellationToken cancellationToken)
    {
        var facts = source.Facts;
        if (facts != Facts(spec, (int)Math.Min(facts.DiskBytes, int.MaxValue)))
        {
            throw new IsolationException($"MicroVM {spec.Owner.VmId} cannot be restored: what was saved is {facts}, and needed is {Facts(spec, 0)} with any disk.");
        }

        try
        {
            var devices = JsonSerializer.Deserialize(await source.ReadDevicesAsync(cancellationToken).ConfigureAwait(false), StateJson.Default.DeviceState);
            if (devices is not { Format: Format, StateBytes: >= 0, DirtyPages: >= 0 })
            {
                throw new InvalidDataException("its devices are of no format that this program reads");
            }

            var memory = await ReadMemoryAsync(source, devices, facts.MemoryBytes, cancellationToken).ConfigureAwait(false);
            var state = JsonSerializer.Deserialize(memory, StateJson.Default.MachineState)!;
            var memo = JsonSerializer.Deserialize(await source.ReadGuestAsync(cancellationToken).ConfigureAwait(false), StateJson.Default.ChannelMemo);
            if (memo?.Executions.Count != state.Executions.Count)
            {
                throw new InvalidDataException("what the host knew of its channel is of another moment");
            }

            var disk = new byte[facts.DiskBytes];
            await foreach (var block in source.ReadDiskAsync(cancellationToken).ConfigureAwait(false))
            {
                block.Data.CopyTo(disk.AsMemory((int)block.Index * MachineBlock.DiskBlock));
            }

            return devices.DiskHash == NullDisk.Hash(disk) ? (state, disk) : throw new InvalidDataException("its disk is not what was saved");
        }
        catch (Exception e) when (e is InvalidDataException or JsonException or ArgumentException)
        {
            throw new IsolationException($"MicroVM {spec.Owner.VmId} cannot be restored: {e.Message}.", e);
        }
    }

    private static async Task<byte[]> ReadMemoryAsync(IMachineSource source, DeviceState devices, long memoryBytes, CancellationToken cancellationToken)
    {
        var state = new byte[devices.StateBytes];
        var firstDirty = (memoryBytes / MachineBlock.MemoryBlock) - devices.DirtyPages;
        var dirty = 0;
        await foreach (var block in source.ReadMemoryAsync(cancellationToken).ConfigureAwait(false))
        {
            var at = block.Index * MachineBlock.MemoryBlock;
            if (at < state.Length)
            {
                block.Data[..(int)Math.Min(block.Data.Length, state.Length - at)].CopyTo(state.AsMemory((int)at));
            }
            else if (block.Index >= firstDirty)
            {
                dirty += block.Data.Span.SequenceEqual(Dirty(devices.DirtySeed, (int)(block.Index - firstDirty))) ? 1 : 0;
            }
        }

        return dirty == devices.DirtyPages && NullDisk.Hash(state) == devices.StateHash ? state : throw new InvalidDataException("its memory is not what was saved");
    }

    private static byte[] Dirty(int seed, int page)
    {
        Span<byte> both = stackalloc byte[8];
        BinaryPrimitives.WriteInt32LittleEndian(both, seed);
        BinaryPrimitives.WriteInt32LittleEndian(both[4..], page);
        var content = new byte[MachineBlock.MemoryBlock];
        new Random(HashCode(both)).NextBytes(content);
        return content;

        // Not System.HashCode: that one is another in each process.
        static int HashCode(ReadOnlySpan<byte> bytes)
        {
            var hash = 17;
            foreach (var b in bytes)
            {
                hash = unchecked((hash * 31) + b);
            }

            return hash;
        }
    }
}
