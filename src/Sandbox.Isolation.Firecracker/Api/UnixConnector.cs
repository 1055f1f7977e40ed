using System.Net.Sockets;
using Sandbox.Isolation.Backends;

namespace Sandbox.Isolation.Firecracker.Api;

/// <summary>Connects to a unix socket in a machine's directory. That directory belongs to the machine's user: what is there may be something else than a socket.</summary>
internal static class UnixConnector
{
    /// <exception cref="SocketException">Nobody listens there (yet).</exception>
    /// <exception cref="IsolationException">Something else is there. A link would lead to a socket of somebody else's.</exception>
    public static async Task<NetworkStream> ConnectAsync(string path, CancellationToken cancellationToken)
    {
        if (new FileInfo(path).LinkTarget is not null)
        {
            throw new IsolationException($"{path} is a symbolic link where a socket was expected; it is not followed.");
        }

        var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        try
        {
            await socket.ConnectAsync(new UnixDomainSocketEndPoint(path), cancellationToken);
            return new NetworkStream(socket, ownsSocket: true);
        }
        catch
        {
            socket.Dispose();
            throw;
        }
    }
}
