using Microsoft.Win32.SafeHandles;
using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Disks;

namespace Sandbox.Isolation.Qemu.Memory;

/// <summary>
/// Memory that several machines map: a memfd sealed against writing. QEMU opens the file it maps for writing even where the mapping is private, and an
/// escaped one must not be able to write into the memory of all its siblings.
/// </summary>
internal sealed class SealedMemory : IDisposable
{
    private readonly SafeFileHandle _file;
    private readonly nint _address;

    internal SealedMemory(SafeFileHandle file, string name, nint address, long size) => (_file, Name, _address, Size) = (file, name, address, size);

    /// <summary>In bytes.</summary>
    public long Size { get; }

    /// <summary>The file.</summary>
    public SafeFileHandle File => _file;

    /// <summary>What the kernel shows where a process has it open or mapped, after <c>/memfd:</c>.</summary>
    public string Name { get; }

    /// <summary>A path under which a process that this one starts can open it, for as long as this one lives.</summary>
    public string Path => $"/proc/{Environment.ProcessId}/fd/{_file.DangerousGetHandle()}";

    /// <summary>Makes one of a file.</summary>
    public static SealedMemory Load(string name, string path)
    {
        using var source = System.IO.File.OpenHandle(path);
        var length = RandomAccess.GetLength(source);
        using var memory = new UnsealedMemory(name);
        SparseCopy.Copy(source, memory.File, length);
        return memory.Seal(length);
    }

    /// <summary>One page. Not to be kept beyond the life of this.</summary>
    public unsafe ReadOnlySpan<byte> PageAt(long index)
    {
        ObjectDisposedException.ThrowIf(_file.IsClosed, this);
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual((ulong)index, (ulong)(Size / MachineBlock.MemoryBlock), nameof(index));
        return new ReadOnlySpan<byte>((void*)(_address + (nint)(index * MachineBlock.MemoryBlock)), MachineBlock.MemoryBlock);
    }

    public void Dispose()
    {
        if (!_file.IsClosed)
        {
            _file.Dispose();
            MemoryCalls.Unmap(_address, Size);
        }
    }
}
