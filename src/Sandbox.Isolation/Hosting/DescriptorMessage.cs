using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace Sandbox.Isolation.Hosting;

/// <summary>Messages with descriptors over a unix socket (SCM_RIGHTS), which .NET's sockets have no call for.</summary>
public static unsafe partial class DescriptorMessage
{
    private const int SocketLevel = 1;
    private const int Rights = 1;
    private const int CloseOnExec = 0x40000000;
    private const int NoSignal = 0x4000;
    private const int ControlTruncated = 8;

    /// <summary>Size of a control message's header on 64-bit Linux: length, level, type.</summary>
    private const int Header = 16;

    /// <summary>Room for as many descriptors as the kernel lets be sent at once would be 253; more than one is an error anyway, and eight are enough to see it.</summary>
    private const int MaxDescriptors = 8;

    /// <summary>Sends bytes and a descriptor at once. For a message that fits into the socket's buffer: it does not wait.</summary>
    /// <param name="socket">A connected unix stream socket.</param>
    /// <param name="data">At least one byte: a stream carries no descriptor without.</param>
    /// <param name="file">The descriptor, or <see langword="null"/> for none.</param>
    /// <exception cref="IOException">Not all of it was taken.</exception>
    public static void Send(SafeHandle socket, ReadOnlySpan<byte> data, SafeFileHandle? file)
    {
        ArgumentNullException.ThrowIfNull(socket);
        var control = stackalloc byte[Header + sizeof(long)];
        var held = false;
        try
        {
            fixed (byte* bytes = data)
            {
                var piece = new Piece { Address = bytes, Length = (nuint)data.Length };
                var message = new Message { Pieces = &piece, PieceCount = 1 };
                if (file is not null)
                {
                    file.DangerousAddRef(ref held);
                    *(long*)control = Header + sizeof(int);
                    *(int*)(control + 8) = SocketLevel;
                    *(int*)(control + 12) = Rights;
                    *(int*)(control + Header) = (int)file.DangerousGetHandle();
                    message.Control = control;
                    message.ControlLength = Header + sizeof(long);
                }

                var sent = SendMessage(socket, &message, NoSignal);
                if (sent != data.Length)
                {
                    throw new IOException(sent < 0 ? $"sendmsg: {Marshal.GetLastPInvokeErrorMessage()}" : $"sendmsg: {sent} of {data.Length} bytes were taken");
                }
            }
        }
        finally
        {
            if (held)
            {
                file!.DangerousRelease();
            }
        }
    }

    /// <summary>Receives once. Descriptors that came are the caller's.</summary>
    /// <exception cref="IOException">The call failed.</exception>
    public static (int Length, IReadOnlyList<SafeFileHandle> Descriptors) Receive(SafeHandle socket, Span<byte> buffer)
    {
        ArgumentNullException.ThrowIfNull(socket);
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

    [LibraryImport("libc", EntryPoint = "sendmsg", SetLastError = true)]
    private static partial nint SendMessage(SafeHandle socket, Message* message, int flags);

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
