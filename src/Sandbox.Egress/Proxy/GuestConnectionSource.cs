using System.Net.Sockets;
using Sandbox.Isolation.Network;

namespace Sandbox.Egress.Proxy;

/// <summary>Connections out of a machine's network namespace.</summary>
public sealed class GuestConnectionSource : IConnectionSource
{
    private readonly IGuestNetwork _network;
    private readonly Socket _listener;

    /// <summary>Listens at <see cref="NetworkPlan.ProxyPort"/>.</summary>
    /// <param name="network">The machine's network. Stays its owner's.</param>
    /// <exception cref="IOException">The namespace is gone, or the port is taken.</exception>
    public GuestConnectionSource(IGuestNetwork network)
    {
        ArgumentNullException.ThrowIfNull(network);
        _network = network;
        _listener = network.Listen(NetworkPlan.ProxyPort);
    }

    /// <inheritdoc/>
    public async ValueTask<AcceptedConnection?> AcceptAsync(CancellationToken cancellationToken)
    {
        while (true)
        {
            Socket socket;
            try
            {
                socket = await _listener.AcceptAsync(cancellationToken);
            }
            catch (SocketException e) when (e.SocketErrorCode is SocketError.ConnectionAborted or SocketError.ConnectionReset)
            {
                // The guest took its connection back before we had it.
                continue;
            }
            catch (SocketException e) when (e.SocketErrorCode is SocketError.TooManyOpenSockets or SocketError.NoBufferSpaceAvailable)
            {
                // The host's trouble, not the session's: wait for it to pass instead of turning in a circle.
                await Task.Delay(100, cancellationToken);
                continue;
            }
            catch (Exception e) when (e is SocketException or ObjectDisposedException)
            {
                return null;
            }

            try
            {
                return new AcceptedConnection(socket, _network.OriginalDestination(socket));
            }
            catch (Exception e) when (e is IOException or SocketException or ObjectDisposedException)
            {
                // The guest named the gateway itself, or is gone already: there is nothing to proxy to.
                socket.Dispose();
            }
        }
    }

    /// <inheritdoc/>
    public void Dispose() => _listener.Dispose();
}
