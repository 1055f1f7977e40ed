using Sandbox.Guest.Agent.Platform;

namespace Sandbox.Guest.Agent.Channel;

/// <summary>
/// A port of this machine's on the virtual socket device, for whoever connects from outside; .NET has no such sockets. Programs of this machine cannot: there is no loopback transport in the image, and only the
/// host's address is let in.
/// </summary>
internal sealed unsafe class VsockListener : IListener
{
    private const int Family = 40;
    private const int StreamType = 1;
    private const uint AnyAddress = 0xffffffff;
    private const uint Host = 2;
    private const int Backlog = 64;
    private const int ShutdownBoth = 2;

    private readonly int _socket;

    public VsockListener(uint port)
    {
        _socket = Native.OpenSocket(Family, StreamType | Native.CloseOnExec, 0);
        var address = new VsockAddress { Family = Family, Port = port, Address = AnyAddress };
        if (_socket < 0 || Native.Bind(_socket, &address, (uint)sizeof(VsockAddress)) != 0 || Native.Listen(_socket, Backlog) != 0)
        {
            throw AgentException.FromErrno(Native.Errno, $"listen at vsock port {port}");
        }
    }

    public IConnection? Accept()
    {
        VsockAddress peer;
        var length = (uint)sizeof(VsockAddress);
        var fd = Native.Accept(_socket, &peer, &length, Native.CloseOnExec);
        if (fd < 0)
        {
            return null;
        }

        if (peer.Family == Family && peer.Address == Host)
        {
            return new Connection(fd);
        }

        Native.Close(fd);
        return null;
    }

    private sealed class Connection(int fd) : IConnection
    {
        public Stream Stream { get; } = new DescriptorStream(fd);

        /// <summary>Only called for one that has not been disposed: the number is still this socket's.</summary>
        public void Shutdown() => _ = Native.Shutdown(fd, ShutdownBoth);
    }
}
