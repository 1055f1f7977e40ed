using System.Net;

namespace Sandbox.Isolation.Network;

/// <summary>How the networks of a host's machines are made.</summary>
public sealed record GuestNetworkOptions
{
    /// <summary>
    /// What is never reachable, whatever is opened. IPv4; the machine's own network is always added. Default: every range that is not public. Tests take some out to have servers at addresses for documentation.
    /// </summary>
    public IReadOnlyList<IPNetwork> NotPublic { get; init; } = NotPublicRanges.Default;

    /// <summary>Networks kept ready, because making one takes tens of milliseconds; 0..64. From the first that was taken on.</summary>
    public int Ready { get; init; } = 2;

    /// <summary>New TCP connections of one machine in a second, whatever becomes of them. What goes beyond is dropped, and TCP tries again.</summary>
    public int ConnectionsPerSecond { get; init; } = 100;

    /// <summary>Packets from one machine in a second; large segments count once.</summary>
    public int PacketsPerSecond { get; init; } = 50_000;

    /// <summary>Questions by UDP to our DNS in a second.</summary>
    public int QuestionsPerSecond { get; init; } = 500;

    /// <summary>Most endpoints open at a time in one network.</summary>
    public int MaxOpen { get; init; } = 16_384;
}

/// <summary>Addresses that are not public.</summary>
public static class NotPublicRanges
{
    /// <summary>
    /// All of IPv4 that is set aside for something else than hosts of the Internet (private, shared, local, for documentation and tests, multicast, reserved), and the one address outside of that at which a cloud (Azure)
    /// answers its machines' metadata. One list for the firewall, the DNS, the proxy and the auditor.
    /// </summary>
    public static IReadOnlyList<IPNetwork> Default { get; } =
    [
        .. ((string[])[
            "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "168.63.129.16/32", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16",
            "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
        ]).Select(IPNetwork.Parse),
    ];
}
