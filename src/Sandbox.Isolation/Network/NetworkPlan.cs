using System.Net;

namespace Sandbox.Isolation.Network;

/// <summary>
/// Addresses inside every session's network. They are the same for all: no two networks are connected, and a machine that is cloned, forked, resumed or moved keeps what it knows of its network.
/// Who a connection belongs to is known from the socket that took it, never from an address.
/// </summary>
public static class NetworkPlan
{
    /// <summary>The guest.</summary>
    public static IPAddress GuestAddress { get; } = IPAddress.Parse("10.53.0.2");

    /// <summary>The guest's gateway and name server: our end.</summary>
    public static IPAddress GatewayAddress { get; } = IPAddress.Parse("10.53.0.1");

    /// <summary>Bits of the network.</summary>
    public const int PrefixLength = 30;

    /// <summary>MAC of the guest; locally administered.</summary>
    public const string GuestMac = "02:53:42:58:00:02";

    /// <summary>MAC of our end.</summary>
    public const string GatewayMac = "02:53:42:58:00:01";

    /// <summary>Our end of the machine's interface, inside the namespace.</summary>
    public const string InterfaceName = "guest0";

    /// <summary>TCP port that connections are redirected to.</summary>
    public const int ProxyPort = 15001;

    /// <summary>UDP and TCP port of our DNS.</summary>
    public const int DnsPort = 53;
}
