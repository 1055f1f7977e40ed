using System.Buffers.Binary;
using System.Runtime.InteropServices;

namespace Sandbox.Guest.Agent.Platform;

/// <summary>
/// Ends TCP connections that lead out of a machine that was just copied or restored: their other ends are not there any more, and a program that only waits for data would wait for ever. What it gets is ECONNABORTED. Connections
/// inside of the machine go on, as do listening sockets. Done by the kernel itself (SOCK_DESTROY of sock_diag(7)), so whatever process has the socket, and however many share it.
/// </summary>
internal static unsafe class StaleConnections
{
    private const int NetlinkFamily = 16;
    private const int RawSocket = 3;
    private const int SocketDiagnostics = 4;
    private const ushort ByFamily = 20;
    private const ushort Destroy = 21;
    private const ushort Done = 3;
    private const ushort Failed = 2;
    private const ushort Request = 1;
    private const ushort Dump = 0x300;
    private const byte Internet = 2;
    private const byte Internet6 = 10;
    private const byte Tcp = 6;
    private const uint NotListening = 0xFFF & ~(1u << 10);

    /// <summary>More than the controlled door lets a session have at a time. A guest that made more by other ways does not get to hold up its own start.</summary>
    private const int Most = 10_000;

    // struct nlmsghdr; struct inet_diag_req_v2, whose last member is struct inet_diag_sockid; struct inet_diag_msg, which has that at 4.
    private const int HeaderSize = 16;
    private const int RequestSize = HeaderSize + 8 + SocketSize;
    private const int SocketSize = 48;
    private const int SocketAt = HeaderSize + 4;
    private const int MessageSize = SocketAt + SocketSize;

    /// <summary>Ends them.</summary>
    /// <returns>How many the kernel ended; 0 too where it cannot.</returns>
    public static int End()
    {
        var socket = Native.OpenSocket(NetlinkFamily, RawSocket | Native.CloseOnExec, SocketDiagnostics);
        if (socket < 0)
        {
            return 0;
        }

        try
        {
            var found = List(socket, Internet);
            found.AddRange(List(socket, Internet6));
            var known = found.Select(c => c.Ends).ToHashSet();
            return found.Where(c => !c.Ends.IsInside && !known.Contains(c.Ends.Mirrored)).Take(Most).Count(c => TryEnd(socket, c));
        }
        finally
        {
            Native.Close(socket);
        }
    }

    private static List<Connection> List(int socket, byte family)
    {
        List<Connection> found = [];
        Span<byte> request = stackalloc byte[RequestSize];
        Fill(request, ByFamily, Request | Dump, family, NotListening, default);
        if (!Send(socket, request))
        {
            return found;
        }

        var buffer = new byte[32 * 1024];
        while (true)
        {
            var got = Receive(socket, buffer);
            if (got <= 0)
            {
                return found;
            }

            for (var rest = buffer.AsSpan(0, got); rest.Length >= HeaderSize;)
            {
                var length = MemoryMarshal.Read<int>(rest);
                var type = MemoryMarshal.Read<ushort>(rest[4..]);
                if (length < HeaderSize || length > rest.Length || type is Done or Failed)
                {
                    return found;
                }

                if (type == ByFamily && length >= MessageSize)
                {
                    found.Add(new Connection(family, rest.Slice(SocketAt, SocketSize).ToArray()));
                }

                rest = rest[Math.Min(rest.Length, (length + 3) & ~3)..];
            }
        }
    }

    private static bool TryEnd(int socket, Connection connection)
    {
        const ushort Acknowledge = 4;
        Span<byte> request = stackalloc byte[RequestSize];
        Fill(request, Destroy, Request | Acknowledge, connection.Family, NotListening, connection.Id);
        Span<byte> answer = stackalloc byte[256];
        return Send(socket, request) && Receive(socket, answer) >= HeaderSize + 4 && MemoryMarshal.Read<ushort>(answer[4..]) == Failed
            && MemoryMarshal.Read<int>(answer[HeaderSize..]) == 0;
    }

    private static void Fill(Span<byte> message, ushort type, int flags, byte family, uint states, ReadOnlySpan<byte> id)
    {
        message.Clear();
        BinaryPrimitives.WriteInt32LittleEndian(message, RequestSize);
        BinaryPrimitives.WriteUInt16LittleEndian(message[4..], type);
        BinaryPrimitives.WriteUInt16LittleEndian(message[6..], (ushort)flags);
        message[HeaderSize] = family;
        message[HeaderSize + 1] = Tcp;
        BinaryPrimitives.WriteUInt32LittleEndian(message[(HeaderSize + 4)..], states);
        id.CopyTo(message[(HeaderSize + 8)..]);
    }

    private static bool Send(int socket, ReadOnlySpan<byte> message)
    {
        fixed (byte* bytes = message)
        {
            return Native.Write(socket, bytes, (nuint)message.Length) == message.Length;
        }
    }

    private static int Receive(int socket, Span<byte> buffer)
    {
        fixed (byte* bytes = buffer)
        {
            nint got;
            do
            {
                got = Native.Read(socket, bytes, (nuint)buffer.Length);
            }
            while (got < 0 && Native.Errno == Native.Interrupted);
            return (int)got;
        }
    }

    /// <param name="Family">AF_INET or AF_INET6.</param>
    /// <param name="Id">struct inet_diag_sockid: source and destination port, then 16 bytes for the address of each, network byte order.</param>
    private sealed record Connection(byte Family, byte[] Id)
    {
        public Ends Ends { get; } = new(Address(Family, Id.AsSpan(4, 16)), BinaryPrimitives.ReadUInt16BigEndian(Id), Address(Family, Id.AsSpan(20, 16)), BinaryPrimitives.ReadUInt16BigEndian(Id.AsSpan(2)));

        private static UInt128 Address(byte family, ReadOnlySpan<byte> bytes) => family == Internet ? Ends.Mapped | BinaryPrimitives.ReadUInt32BigEndian(bytes) : BinaryPrimitives.ReadUInt128BigEndian(bytes);
    }

    /// <summary>Both ends, in IPv6, where IPv4 is mapped. A connection inside of the machine is there twice, once from each end.</summary>
    private readonly record struct Ends(UInt128 Source, ushort SourcePort, UInt128 Destination, ushort DestinationPort)
    {
        public static readonly UInt128 Mapped = (UInt128)0xFFFF << 32;

        public Ends Mirrored => new(Destination, DestinationPort, Source, SourcePort);

        public bool IsInside => Source == Destination || Destination >> 24 == (Mapped | 0x7F000000u) >> 24;
    }
}
