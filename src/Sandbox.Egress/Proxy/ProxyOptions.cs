using System.Net;
using System.Net.Sockets;
using System.Security.Cryptography.X509Certificates;
using Sandbox.Egress.Policy;

namespace Sandbox.Egress.Proxy;

/// <summary>Bounds and settings of a host's proxy. The same for all sessions; what a session may use is in its policy (<see cref="Sandbox.Abstractions.EgressLimits"/>).</summary>
public sealed record ProxyOptions
{
    /// <summary>How long a guest may take to a complete ClientHello or request head, and a TLS handshake with us may last. Default 10 s.</summary>
    public TimeSpan HeadTimeout { get; init; } = TimeSpan.FromSeconds(10);

    /// <summary>How long a guest may be silent at first before its connection is taken for one where the server speaks first. Not on ports 80 and 443. Default 300 ms.</summary>
    public TimeSpan SilenceWindow { get; init; } = TimeSpan.FromMilliseconds(300);

    /// <summary>How long a connection to the other side may take to be made, TLS included. Default 10 s.</summary>
    public TimeSpan ConnectTimeout { get; init; } = TimeSpan.FromSeconds(10);

    /// <summary>A connection on which nothing moves for so long is ended. Default 15 minutes.</summary>
    public TimeSpan IdleLimit { get; init; } = TimeSpan.FromMinutes(15);

    /// <summary>Most bytes of a ClientHello or of a request's headers. Default 64 KiB.</summary>
    public int HeadBytes { get; init; } = 64 * 1024;

    /// <summary>Most headers of a request. Default 100.</summary>
    public int HeadCount { get; init; } = 100;

    /// <summary>How long the next piece of a body is waited for that an auditor is to see; what is there by then is judged as cut. Default 5 s.</summary>
    public TimeSpan AuditBodyWait { get; init; } = TimeSpan.FromSeconds(5);

    /// <summary>Networks that may be reached although they are not public. Empty, except in tests and for an operator's own registry.</summary>
    public IReadOnlyList<IPNetwork> AlsoReachable { get; init; } = [];

    /// <summary>Roots that servers' certificates are accepted from besides the system's, for an operator's own registry and tests. Nothing else of the verification changes.</summary>
    public X509Certificate2Collection UpstreamRoots { get; init; } = [];

    /// <summary>Whether an address may be reached at all, whatever a policy says: it is public, and not the host's own.</summary>
    /// <param name="address">An address.</param>
    public bool MayReach(IPAddress address)
    {
        ArgumentNullException.ThrowIfNull(address);
        // Sessions have IPv4 alone, so nothing of theirs goes on by IPv6.
        return ((address.AddressFamily == AddressFamily.InterNetwork && PublicAddresses.Default.IsPublic(address)) || AlsoReachable.Any(n => n.Contains(address))) && !OwnAddresses.Contains(address);
    }
}
