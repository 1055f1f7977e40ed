using System.Runtime.InteropServices;

namespace Sandbox.Isolation.Firecracker.Memory.Userfault;

/// <summary>The kernel's side of userfaultfd(2): its requests and structures, on x86-64.</summary>
internal static unsafe partial class UserfaultNative
{
    public const int EventBytes = 32;
    public const byte PageFault = 0x12;
    public const byte Remove = 0x15;
    public const int NoProcess = 3;
    public const int Again = 11;
    public const int Exists = 17;
    public const int Interrupted = 4;
    public const int NoEntry = 2;
    public const short PollIn = 1;
    public const int SetFlags = 4;
    public const int NonBlocking = 0x800;
    private const nuint CopyRequest = 0xc028aa03;
    private const nuint ZeroRequest = 0xc020aa04;
    private const nuint WakeRequest = 0x8010aa02;

    /// <summary>Puts bytes where the process waits for them, and wakes it. Returns 0 or an errno.</summary>
    public static int Copy(int fd, ulong to, byte* from, ulong length)
    {
        var request = new CopyArguments { To = to, From = (ulong)from, Length = length };
        return IoControl(fd, CopyRequest, &request) == 0 ? 0 : Marshal.GetLastPInvokeError();
    }

    /// <summary>Puts zeros there.</summary>
    public static int Zero(int fd, ulong to, ulong length)
    {
        var request = new ZeroArguments { To = to, Length = length };
        return IoControl(fd, ZeroRequest, &request) == 0 ? 0 : Marshal.GetLastPInvokeError();
    }

    /// <summary>Wakes whoever waits for pages that are there already.</summary>
    public static int Wake(int fd, ulong at, ulong length)
    {
        var request = new Range { Begin = at, Length = length };
        return IoControl(fd, WakeRequest, &request) == 0 ? 0 : Marshal.GetLastPInvokeError();
    }

    [LibraryImport("libc", EntryPoint = "ioctl", SetLastError = true)]
    private static partial int IoControl(int fd, nuint request, void* argument);

    [LibraryImport("libc", EntryPoint = "read", SetLastError = true)]
    public static partial nint Read(int fd, byte* buffer, nuint count);

    [LibraryImport("libc", EntryPoint = "poll", SetLastError = true)]
    public static partial int Poll(PollRequest* requests, nuint count, int timeoutMs);

    [LibraryImport("libc", EntryPoint = "fcntl", SetLastError = true)]
    public static partial int FileControl(int fd, int command, int argument);

    [StructLayout(LayoutKind.Sequential)]
    private struct CopyArguments
    {
        public ulong To;
        public ulong From;
        public ulong Length;
        public ulong Mode;
        public long Copied;
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct ZeroArguments
    {
        public ulong To;
        public ulong Length;
        public ulong Mode;
        public long Zeroed;
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct Range
    {
        public ulong Begin;
        public ulong Length;
    }
}

[StructLayout(LayoutKind.Sequential)]
internal struct PollRequest
{
    public int Fd;
    public short Events;
    public short Returned;
}
