using System.Net;
using System.Net.Sockets;

namespace Sandbox.Egress.Proxy;

/// <summary>Where a session's connections come from. Disposing it ends a pending accept.</summary>
public interface IConnectionSource : IDisposable
{
    /// <summary>The next connection, or <see langword="null"/> once there will be none: the network is gone.</summary>
    ValueTask<AcceptedConnection?> AcceptAsync(CancellationToken cancellationToken);
}

/// <summary>A connection of the guest that was redirected to us.</summary>
/// <param name="Socket">Connected; the taker disposes of it.</param>
/// <param name="Destination">Where the guest wanted to go.</param>
public sealed record AcceptedConnection(Socket Socket, IPEndPoint Destination);
