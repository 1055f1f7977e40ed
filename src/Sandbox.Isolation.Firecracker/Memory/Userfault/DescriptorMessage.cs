using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace Sandbox.Isolation.Firecracker.Memory.Userfault;

/// <summary>Receives a message with descriptors over a unix socket (SCM_RIGHTS), which .NET's sockets have no call for.</summary>
internal static unsafe partial class DescriptorMessage
{
    private const int SocketLevel = 1;
    private const int Rights = 1;
    private const int CloseOnExec = 0x40000000;
    private const int ControlTruncated = 8;

    /// <summary>Size of a control message's header on 64-bit Linux.</summary>
    private const int Header = 16;

    /// <summary>Room for as many descriptors as the kernel lets be sent at once would be 253; more than one is an error anyway, and eight are enough to see it.</summary>
    private const int MaxDescriptors = 8;

    /// <summary>Receives once. Descriptors that came are the caller's.</summary>
    /// <exception cref="IOException">The call failed.</exception>
    public static (int Length, IReadOnlyList<SafeFileHandle> Descriptors) Receive(SafeHandle socket, Span<byte> buffer)
    {
        var control = stackalloc byte[Header + (MaxDescriptors * sizeof(int))];
        fixed (byte* data = buffer)
        {
            var piece = new Piece { Address = data, Length = (nuint)buffer.Length };
            var message = new Message { Pieces = &piece, PieceCount = 1, Control = control, ControlLength = Header + (MaxDescriptors * sizeof(int)) };
            var length = ReceiveMessage(socket, &message, CloseOnExec);
            if (length < 0)
            {
                throw new IOException($"recvmsg: {Marshal.GetLastPInvokeErrorMessage()}");
            }

            var descriptors = new List<SafeFileHandle>();
            if (message.ControlLength >= Header && *(int*)(control + 8) == SocketLevel && *(int*)(control + 12) == Rights)
            {
                var count = ((int)Math.Min(*(nuint*)control, message.ControlLength) - Header) / sizeof(int);
                for (var i = 0; i < count; i++)
                {
                    descriptors.Add(new SafeFileHandle(*(int*)(control + Header + (i * sizeof(int))), ownsHandle: true));
                }
            }

            if ((message.Flags & ControlTruncated) != 0)
            {
                descriptors.ForEach(d => d.Dispose());
                throw new IOException("More descriptors came than there is room for.");
            }

            return ((int)length, descriptors);
        }
    }

    [LibraryImport("libc", EntryPoint = "recvmsg", SetLastError = true)]
    private static partial nint ReceiveMessage(SafeHandle socket, Message* message, int flags);

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
