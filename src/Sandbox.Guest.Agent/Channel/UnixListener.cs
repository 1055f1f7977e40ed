using System.Net.Sockets;

namespace Sandbox.Guest.Agent.Channel;

/// <summary>A unix socket, which only this process's user can connect to.</summary>
internal sealed class UnixListener : IListener
{
    private readonly Socket _socket = new(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);

    public UnixListener(string path)
    {
        File.Delete(path);
        _socket.Bind(new UnixDomainSocketEndPoint(path));
        File.SetUnixFileMode(path, UnixFileMode.UserRead | UnixFileMode.UserWrite);
        _socket.Listen(64);
    }

    public IConnection? Accept()
    {
        try
        {
            return new Connection(_socket.Accept());
        }
        catch (SocketException)
        {
            return null;
        }
    }

    private sealed class Connection(Socket socket) : IConnection
    {
        public Stream Stream { get; } = new NetworkStream(socket, ownsSocket: true);

        public void Shutdown()
        {
            try
            {
                socket.Shutdown(SocketShutdown.Both);
            }
            catch (Exception e) when (e is SocketException or ObjectDisposedException)
            {
                // It has ended by itself.
            }
        }
    }
}
