using System.Net;
using System.Net.Sockets;

namespace Sandbox.Isolation.Network;

/// <summary>
/// The network of one microVM: a namespace of its own that holds nothing but the machine's interface and our sockets. Nothing is routed out of it: what leaves the guest ends at a socket that this process opened
/// inside the namespace, or is dropped and counted. Made and removed with its machine by the backend; safe for concurrent use.
/// </summary>
public interface IGuestNetwork
{
    /// <summary>A TCP listener inside the namespace. The firewall sends connections of the guest to <see cref="NetworkPlan.ProxyPort"/>, whatever their destination, if that is open.</summary>
    /// <exception cref="IOException">The namespace is gone, or the port is taken.</exception>
    Socket Listen(int port);

    /// <summary>A UDP socket inside the namespace, at the gateway's address.</summary>
    /// <exception cref="IOException">The namespace is gone, or the port is taken.</exception>
    Socket BindDatagram(int port);

    /// <summary>Where the guest wanted to go with a connection that one of our listeners accepted.</summary>
    /// <exception cref="IOException">The connection was not redirected: the guest named the gateway itself.</exception>
    IPEndPoint OriginalDestination(Socket connection);

    /// <summary>Opens the firewall for connections to endpoints, each for its time. Opening one again prolongs it. Returns once the kernel has it.</summary>
    Task OpenAsync(IReadOnlyList<OpenEndpoint> endpoints, CancellationToken cancellationToken);

    /// <summary>Puts these in the place of everything that is open, in one step. Connections that are established stay; whoever accepted them ends those that are permitted no more.</summary>
    Task ReplaceAsync(IReadOnlyList<OpenRange> ranges, IReadOnlyList<OpenEndpoint> endpoints, CancellationToken cancellationToken);

    /// <summary>Packets that the firewall dropped since the network was made.</summary>
    Task<NetworkDrops> ReadDropsAsync(CancellationToken cancellationToken);
}

/// <summary>An address and port that is open for a time.</summary>
/// <param name="Address">IPv4.</param>
/// <param name="Port">TCP port.</param>
/// <param name="Lifetime">How long; at most a day.</param>
public sealed record OpenEndpoint(IPAddress Address, int Port, TimeSpan Lifetime);

/// <summary>A range that is open until replaced. Addresses that are not public stay closed even inside of one.</summary>
/// <param name="Network">IPv4.</param>
/// <param name="FirstPort">First TCP port.</param>
/// <param name="LastPort">Last TCP port.</param>
public sealed record OpenRange(IPNetwork Network, int FirstPort, int LastPort);

/// <summary>Packets that a guest sent and the firewall dropped, by reason.</summary>
public sealed record NetworkDrops
{
    /// <summary>TCP to where nothing is open.</summary>
    public long Tcp { get; init; }

    /// <summary>UDP that is not for our DNS.</summary>
    public long Udp { get; init; }

    /// <summary>To addresses that are never reachable: private, loopback, link-local, metadata, multicast.</summary>
    public long NotPublic { get; init; }

    /// <summary>From an address that is not the guest's own (IP or MAC).</summary>
    public long Spoofed { get; init; }

    /// <summary>Beyond the rate of new connections or packets.</summary>
    public long Rate { get; init; }

    /// <summary>Anything else: ICMP, IPv6, other protocols.</summary>
    public long Other { get; init; }

    /// <summary>All.</summary>
    public long Total => Tcp + Udp + NotPublic + Spoofed + Rate + Other;
}
