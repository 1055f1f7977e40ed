using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;
using Sandbox.Isolation.Backends;

namespace Sandbox.Isolation.Qemu.Memory;

/// <summary>What .NET has no call for.</summary>
internal static partial class MemoryCalls
{
    private const uint AllowSealing = 2;
    private const uint CloseOnExec = 1;
    private const int AddSeals = 1033;

    /// <summary>Against other seals, shrinking, growing, and writing from now on. The seal against all writing would wait until the kernel has let go of every page that was just written (up to 0.3 s), for the sake of writers that are not there.</summary>
    private const int Seals = 1 | 2 | 4 | 0x10;
    private const int Read = 1;
    private const int Write = 2;
    private const int Shared = 1;
    private const int Private = 2;
    private const int Populate = 0x8000;

    public static SafeFileHandle Create(string name)
    {
        var fd = CreateMemoryFile(name, AllowSealing | CloseOnExec);
        return fd < 0 ? throw Failure("make a memory file") : new SafeFileHandle(fd, ownsHandle: true);
    }

    public static void Seal(SafeFileHandle file)
    {
        if (Control(file, AddSeals, Seals) != 0)
        {
            throw Failure("seal a memory file");
        }
    }

    public static nint MapForReading(SafeFileHandle file, long size) => size == 0 ? 0 : Mapped(Map(0, (nuint)size, Read, Private, file, 0));

    public static nint MapForWriting(SafeFileHandle file, long size) => Mapped(Map(0, (nuint)size, Read | Write, Shared | Populate, file, 0));

    public static void Unmap(nint address, long size)
    {
        if (size > 0)
        {
            _ = UnmapMemory(address, (nuint)size);
        }
    }

    private static nint Mapped(nint address) => address == -1 ? throw Failure("map a memory file") : address;

    private static IsolationException Failure(string what) => new($"Cannot {what}: {Marshal.GetLastPInvokeErrorMessage()}");

    [LibraryImport("libc", EntryPoint = "memfd_create", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int CreateMemoryFile(string name, uint flags);

    [LibraryImport("libc", EntryPoint = "fcntl", SetLastError = true)]
    private static partial int Control(SafeFileHandle file, int command, int argument);

    [LibraryImport("libc", EntryPoint = "mmap", SetLastError = true)]
    private static partial nint Map(nint address, nuint length, int protection, int flags, SafeFileHandle file, long offset);

    [LibraryImport("libc", EntryPoint = "munmap")]
    private static partial int UnmapMemory(nint address, nuint length);
}
