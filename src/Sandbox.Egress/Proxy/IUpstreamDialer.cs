using System.Net;
using System.Net.Sockets;

namespace Sandbox.Egress.Proxy;

/// <summary>Makes the proxy's connections to the outside. The last place where an address is looked at: whatever came before, nothing but what may be reached is dialled.</summary>
public interface IUpstreamDialer
{
    /// <summary>Connects to an address. Names are never resolved here.</summary>
    /// <exception cref="UnreachableAddressException">The address is not public.</exception>
    /// <exception cref="SocketException">The other side refused, or cannot be reached.</exception>
    /// <exception cref="TimeoutException">It did not answer in time.</exception>
    ValueTask<Socket> ConnectAsync(IPEndPoint destination, CancellationToken cancellationToken);
}

/// <summary>An address is out of reach whatever a policy says.</summary>
public sealed class UnreachableAddressException : IOException
{
    /// <param name="address">Which.</param>
    public UnreachableAddressException(IPAddress address)
        : base($"{address} is not a public address; private, loopback, link-local, metadata and multicast addresses are out of reach whatever a policy says.")
    {
    }
}
