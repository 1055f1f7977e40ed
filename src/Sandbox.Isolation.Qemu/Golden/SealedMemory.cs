using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;
using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Disks;

namespace Sandbox.Isolation.Qemu.Golden;

/// <summary>
/// Memory that several machines map: a memfd sealed against writing. QEMU opens the file it maps for writing even where the mapping is private, and an
/// escaped one must not be able to write into the memory of all its siblings.
/// </summary>
internal sealed partial class SealedMemory : IDisposable
{
    private const uint AllowSealing = 2;
    private const uint CloseOnExec = 1;
    private const int AddSeals = 1033;
    private const int SealSealing = 1 | 2 | 4 | 8;
    private const int ReadOnly = 1;
    private const int Private = 2;
    private readonly SafeFileHandle _file;
    private readonly nint _address;

    private SealedMemory(SafeFileHandle file, nint address, long size) => (_file, _address, Size) = (file, address, size);

    /// <summary>In bytes.</summary>
    public long Size { get; }

    /// <summary>The file.</summary>
    public SafeFileHandle File => _file;

    /// <summary>A path under which a process that this one starts can open it, for as long as this one lives.</summary>
    public string Path => $"/proc/{Environment.ProcessId}/fd/{_file.DangerousGetHandle()}";

    /// <summary>Makes one of a file.</summary>
    public static SealedMemory Load(string path)
    {
        using var source = System.IO.File.OpenHandle(path);
        var length = RandomAccess.GetLength(source);
        return CreateAsync(length, file =>
        {
            SparseCopy.Copy(source, file, length);
            return Task.CompletedTask;
        }).GetAwaiter().GetResult();
    }

    /// <summary>Makes one of what <paramref name="fill"/> writes.</summary>
    public static async Task<SealedMemory> CreateAsync(long size, Func<SafeFileHandle, Task> fill)
    {
        var fd = CreateMemoryFile("sandbox-golden", AllowSealing | CloseOnExec);
        if (fd < 0)
        {
            throw new IsolationException($"Cannot make a memory file: {Marshal.GetLastPInvokeErrorMessage()}");
        }

        var file = new SafeFileHandle(fd, ownsHandle: true);
        try
        {
            RandomAccess.SetLength(file, size);
            await fill(file);
            if (Control(fd, AddSeals, SealSealing) != 0)
            {
                throw new IsolationException($"Cannot seal the golden memory: {Marshal.GetLastPInvokeErrorMessage()}");
            }

            var address = Map(0, (nuint)size, ReadOnly, Private, fd, 0);
            return address == -1
                ? throw new IsolationException($"Cannot map the golden memory: {Marshal.GetLastPInvokeErrorMessage()}")
                : new SealedMemory(file, address, size);
        }
        catch
        {
            file.Dispose();
            throw;
        }
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
            _ = Unmap(_address, (nuint)Size);
        }
    }

    [LibraryImport("libc", EntryPoint = "memfd_create", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int CreateMemoryFile(string name, uint flags);

    [LibraryImport("libc", EntryPoint = "fcntl", SetLastError = true)]
    private static partial int Control(int fd, int command, int argument);

    [LibraryImport("libc", EntryPoint = "mmap", SetLastError = true)]
    private static partial nint Map(nint address, nuint length, int protection, int flags, int fd, long offset);

    [LibraryImport("libc", EntryPoint = "munmap")]
    private static partial int Unmap(nint address, nuint length);
}
