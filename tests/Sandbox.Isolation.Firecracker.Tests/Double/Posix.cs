using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace Sandbox.Isolation.Firecracker.Tests.Double;

/// <summary>
/// System calls of the double. Files are opened by the names it was told, from its working directory: .NET would make them absolute, and the way there is closed to the user that it runs as.
/// </summary>
internal static unsafe partial class Posix
{
    private const int ReadWrite = 2;
    private const int Create = 0x40;
    private const int Truncate = 0x200;
    private const int CloseOnExec = 0x80000;

    public static SafeFileHandle OpenToRead(string path) => Open(path, CloseOnExec);

    public static SafeFileHandle OpenToWrite(string path) => Open(path, ReadWrite | CloseOnExec);

    /// <summary>As Firecracker makes its snapshot files: one that is there is emptied.</summary>
    public static SafeFileHandle OpenAnew(string path) => Open(path, ReadWrite | Create | Truncate | CloseOnExec);

    public static void BecomeUser(uint user, uint group)
    {
        if (SetGroups(0, 0) != 0 || SetGroup(group) != 0 || SetUser(user) != 0)
        {
            throw new DoubleException($"cannot become user {user}: {Marshal.GetLastPInvokeErrorMessage()}");
        }
    }

    /// <summary>A userfaultfd, or -1 where this process may not have one.</summary>
    public static int OpenUserfault() => (int)SystemCall(323, CloseOnExec | 0x800, 0, 0);

    /// <summary>Anonymous memory that is not there yet.</summary>
    public static byte* Map(nuint length)
    {
        var address = MapMemory(0, length, 3, 0x22, -1, 0);
        return address == -1 ? throw new DoubleException($"mmap: {Marshal.GetLastPInvokeErrorMessage()}") : (byte*)address;
    }

    public static void Control(int fd, nuint request, void* argument, string what)
    {
        if (IoControl(fd, request, argument) != 0)
        {
            throw new DoubleException($"{what}: {Marshal.GetLastPInvokeErrorMessage()}");
        }
    }

    /// <summary>The reading end of a pipe that some bytes are in.</summary>
    public static int PipeWith(ReadOnlySpan<byte> data)
    {
        var ends = stackalloc int[2];
        fixed (byte* bytes = data)
        {
            return Pipe(ends) == 0 && Write(ends[1], bytes, (nuint)data.Length) == data.Length ? ends[0] : throw new DoubleException($"pipe: {Marshal.GetLastPInvokeErrorMessage()}");
        }
    }

    public static int SendDescriptor(SafeHandle socket, ReadOnlySpan<byte> data, int descriptor)
    {
        var control = stackalloc byte[24];
        *(nuint*)control = 20;
        *(int*)(control + 8) = 1;
        *(int*)(control + 12) = 1;
        *(int*)(control + 16) = descriptor;
        fixed (byte* bytes = data)
        {
            var piece = new Piece { Address = bytes, Length = (nuint)data.Length };
            var message = new Message { Pieces = &piece, PieceCount = 1, Control = control, ControlLength = 24 };
            return (int)SendMessage(socket, &message, 0);
        }
    }

    private static SafeFileHandle Open(string path, int flags)
    {
        var fd = OpenFile(path, flags, 0x180);
        return fd < 0 ? throw new DoubleException($"{path}: {Marshal.GetLastPInvokeErrorMessage()}") : new SafeFileHandle(fd, ownsHandle: true);
    }

    [LibraryImport("libc", EntryPoint = "open", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int OpenFile(string path, int flags, int mode);

    [LibraryImport("libc", EntryPoint = "setgroups", SetLastError = true)]
    private static partial int SetGroups(nuint count, nint groups);

    [LibraryImport("libc", EntryPoint = "setgid", SetLastError = true)]
    private static partial int SetGroup(uint group);

    [LibraryImport("libc", EntryPoint = "setuid", SetLastError = true)]
    private static partial int SetUser(uint user);

    [LibraryImport("libc", EntryPoint = "chdir", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    public static partial int ChangeDirectory(string path);

    [LibraryImport("libc", EntryPoint = "getuid")]
    public static partial uint UserId();

    [LibraryImport("libc", EntryPoint = "syscall", SetLastError = true)]
    private static partial nint SystemCall(nint number, nint a, nint b, nint c);

    [LibraryImport("libc", EntryPoint = "mmap", SetLastError = true)]
    private static partial nint MapMemory(nint address, nuint length, int protection, int flags, int fd, long offset);

    [LibraryImport("libc", EntryPoint = "madvise", SetLastError = true)]
    public static partial int Advise(byte* address, nuint length, int advice);

    [LibraryImport("libc", EntryPoint = "ioctl", SetLastError = true)]
    private static partial int IoControl(int fd, nuint request, void* argument);

    [LibraryImport("libc", EntryPoint = "pipe", SetLastError = true)]
    private static partial int Pipe(int* ends);

    [LibraryImport("libc", EntryPoint = "write", SetLastError = true)]
    private static partial nint Write(int fd, void* data, nuint length);

    [LibraryImport("libc", EntryPoint = "sendmsg", SetLastError = true)]
    private static partial nint SendMessage(SafeHandle socket, Message* message, int flags);

    [StructLayout(LayoutKind.Sequential)]
    private struct Piece
    {
        public byte* Address;
        public nuint Length;
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct Message
    {
        public void* Name;
        public uint NameLength;
        public Piece* Pieces;
        public nuint PieceCount;
        public byte* Control;
        public nuint ControlLength;
        public int Flags;
    }
}

/// <summary>Why the double refuses.</summary>
internal sealed class DoubleException(string message) : Exception(message);
