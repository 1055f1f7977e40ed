using System.Buffers.Binary;
using System.Security.Cryptography;
using Microsoft.Win32.SafeHandles;
using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Disks;

namespace Sandbox.Isolation.Golden;

/// <summary>
/// The bytes of a golden snapshot: their id, and how they go from host to host. What is zero does not count, so holes may be where they like.
/// </summary>
public static class GoldenContent
{
    /// <summary>File of the guest's memory.</summary>
    public const string Memory = "memory";

    /// <summary>File of the state of CPU and devices.</summary>
    public const string Devices = "devices";

    /// <summary>File of the writable disk.</summary>
    public const string Disk = "disk.img";

    /// <summary>Blocks read at once.</summary>
    private const int AtOnce = 256;

    /// <summary>SHA-256 over all blocks that are not zero, with their numbers, and the devices, in hexadecimal; and how much of the memory is not zero.</summary>
    public static (string Id, long MemoryBytes) Measure(string directory)
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        hash.AppendData("sandbox golden snapshot 1\n"u8);
        var devices = File.ReadAllBytes(Path.Combine(directory, Devices));
        var memory = 0L;
        foreach (var (file, size) in ((string, int)[])[(Memory, MachineBlock.MemoryBlock), (Disk, MachineBlock.DiskBlock)])
        {
            using var handle = File.OpenHandle(Path.Combine(directory, file));
            var length = RandomAccess.GetLength(handle);
            Append(hash, -1, BitConverter.GetBytes(length));
            foreach (var block in BlocksOf(handle, length, size))
            {
                Append(hash, block.Index, block.Data.Span);
                memory += file == Memory ? block.Data.Length : 0;
            }
        }

        Append(hash, devices.Length, devices);
        return (Convert.ToHexStringLower(hash.GetHashAndReset()), memory);
    }

    /// <summary>Gives all of it to a sink, as a machine that is a difference from nothing.</summary>
    public static async Task ExportAsync(string directory, MachineFacts facts, IMachineSink sink, CancellationToken cancellationToken)
    {
        await sink.BeginAsync(facts, cancellationToken);
        await sink.WriteDevicesAsync(await File.ReadAllBytesAsync(Path.Combine(directory, Devices), cancellationToken), cancellationToken);

        // Nobody goes on in it: each clone makes a connection of its own.
        await sink.WriteGuestAsync(ReadOnlyMemory<byte>.Empty, cancellationToken);
        using (var memory = File.OpenHandle(Path.Combine(directory, Memory)))
        {
            foreach (var block in BlocksOf(memory, facts.MemoryBytes, MachineBlock.MemoryBlock))
            {
                await sink.WriteMemoryAsync(block, cancellationToken);
            }
        }

        using var disk = File.OpenHandle(Path.Combine(directory, Disk));
        foreach (var block in BlocksOf(disk, facts.DiskBytes, MachineBlock.DiskBlock))
        {
            await sink.WriteDiskAsync(block, cancellationToken);
        }
    }

    /// <summary>Writes what a source gives.</summary>
    public static async Task ImportAsync(string directory, IMachineSource source, CancellationToken cancellationToken)
    {
        await File.WriteAllBytesAsync(Path.Combine(directory, Devices), await SourceRules.DevicesOfAsync(source, cancellationToken), cancellationToken);
        await WriteAsync(Path.Combine(directory, Memory), source.Facts.MemoryBytes, MachineBlock.MemoryBlock, SourceRules.MemoryOf(source, cancellationToken));
        var disk = Path.Combine(directory, Disk);
        await WriteAsync(disk, source.Facts.DiskBytes, MachineBlock.DiskBlock, SourceRules.DiskOf(source, cancellationToken));
        File.SetUnixFileMode(disk, UnixFileMode.UserRead | UnixFileMode.UserWrite);
    }

    private static async Task WriteAsync(string path, long length, int size, IAsyncEnumerable<MachineBlock> blocks)
    {
        using var file = File.OpenHandle(path, FileMode.CreateNew, FileAccess.Write);
        RandomAccess.SetLength(file, length);
        await foreach (var block in blocks)
        {
            RandomAccess.Write(file, block.Data.Span, block.Index * size);
        }
    }

    /// <summary>Blocks that are not zero, ascending; the data of one is overwritten by later ones.</summary>
    private static IEnumerable<MachineBlock> BlocksOf(SafeFileHandle file, long length, int size)
    {
        var buffer = GC.AllocateUninitializedArray<byte>(Math.Max(size, AtOnce * MachineBlock.MemoryBlock));
        var atOnce = buffer.Length / size;
        foreach (var (first, behind) in SparseFile.BlocksOf(file, length, size))
        {
            for (var at = first; at < behind; at += atOnce)
            {
                var bytes = (int)Math.Min(Math.Min(atOnce, behind - at) * size, length - (at * size));
                SparseFile.ReadFully(file, buffer.AsSpan(0, bytes), at * size);
                for (var i = 0; i * size < bytes; i++)
                {
                    var data = buffer.AsMemory(i * size, Math.Min(size, bytes - (i * size)));
                    if (data.Span.ContainsAnyExcept((byte)0))
                    {
                        yield return new MachineBlock(at + i, data);
                    }
                }
            }
        }
    }

    private static void Append(IncrementalHash hash, long number, ReadOnlySpan<byte> data)
    {
        Span<byte> header = stackalloc byte[2 * sizeof(long)];
        BinaryPrimitives.WriteInt64LittleEndian(header, number);
        BinaryPrimitives.WriteInt64LittleEndian(header[sizeof(long)..], data.Length);
        hash.AppendData(header);
        hash.AppendData(data);
    }
}
