using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace Sandbox.Wasm.Worker.Platform;

/// <summary>The few system calls that .NET does not offer.</summary>
internal static unsafe partial class Native
{
    private const int PunchAndKeepSize = 3;
    private const int ThreadCpuClock = 3;

    /// <summary>Gives the blocks of a stretch of a file back to its file system. It reads as zeros then; where that is not possible it stays as it is.</summary>
    public static void PunchHole(SafeFileHandle file, long offset, long length) => _ = FileAllocate(file, PunchAndKeepSize, offset, length);

    /// <summary>Processor time of the calling thread.</summary>
    public static TimeSpan ThreadCpu()
    {
        TimeSpec time;
        return GetTime(ThreadCpuClock, &time) == 0 ? new TimeSpan((time.Seconds * TimeSpan.TicksPerSecond) + (time.Nanoseconds / 100)) : TimeSpan.Zero;
    }

    /// <summary>Nanoseconds since some moment, never back.</summary>
    public static ulong Monotonic()
    {
        TimeSpec time;
        return GetTime(1, &time) == 0 ? ((ulong)time.Seconds * 1_000_000_000) + (ulong)time.Nanoseconds : 0;
    }

    /// <summary>Receives bytes and at most one descriptor with them (-1: none). 0 bytes: the other end is closed.</summary>
    public static int Receive(SafeHandle socket, Span<byte> buffer, out int descriptor)
    {
        descriptor = -1;
        var control = stackalloc byte[64];
        fixed (byte* data = buffer)
        {
            var part = new IoVector { Base = data, Length = (nuint)buffer.Length };
            var message = new MessageHeader { Parts = &part, PartCount = 1, Control = control, ControlLength = 64 };
            nint n;
            do
            {
                n = ReceiveMessage(socket, &message, 0x40000000);
            }
            while (n < 0 && Marshal.GetLastPInvokeError() == 4);

            if (n < 0)
            {
                throw new IOException($"recvmsg: {Marshal.GetLastPInvokeErrorMessage()}");
            }

            // struct cmsghdr { size_t len; int level; int type; } and the descriptor.
            if (message.ControlLength >= 20 && *(int*)(control + 8) == 1 && *(int*)(control + 12) == 1)
            {
                descriptor = *(int*)(control + 16);
            }

            return (int)n;
        }
    }

    [LibraryImport("libc", EntryPoint = "recvmsg", SetLastError = true)]
    private static partial nint ReceiveMessage(SafeHandle socket, MessageHeader* message, int flags);

    [LibraryImport("libc", EntryPoint = "fallocate")]
    private static partial int FileAllocate(SafeFileHandle file, int mode, long offset, long length);

    [LibraryImport("libc", EntryPoint = "clock_gettime")]
    private static partial int GetTime(int clock, TimeSpec* time);

    private struct TimeSpec
    {
        public long Seconds;
        public long Nanoseconds;
    }

    private struct IoVector
    {
        public byte* Base;
        public nuint Length;
    }

    private struct MessageHeader
    {
        public void* Name;
        public uint NameLength;
        public IoVector* Parts;
        public nuint PartCount;
        public void* Control;
        public nuint ControlLength;
        public int Flags;
    }
}
