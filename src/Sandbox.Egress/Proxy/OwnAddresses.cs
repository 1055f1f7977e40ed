using System.Net;
using System.Net.NetworkInformation;
using System.Net.Sockets;

namespace Sandbox.Egress.Proxy;

/// <summary>
/// Addresses of the host itself, as of at most half a minute ago. They may be public, and what listens at them was never meant for a session: a connection from the host to itself passes no firewall in between. Safe for concurrent use.
/// </summary>
internal static class OwnAddresses
{
    private static readonly TimeSpan Age = TimeSpan.FromSeconds(30);
    private static volatile Known _known = new([], 0);

    /// <summary>Whether an address is the host's own, but for loopback.</summary>
    public static bool Contains(IPAddress address)
    {
        if (address.IsIPv4MappedToIPv6)
        {
            address = address.MapToIPv4();
        }

        var known = _known;
        if (known.Until < Environment.TickCount64)
        {
            _known = known = new Known(Read(), Environment.TickCount64 + (long)Age.TotalMilliseconds);
        }

        return known.Addresses.Contains(address);
    }

    private static HashSet<IPAddress> Read() =>
    [
        .. NetworkInterface.GetAllNetworkInterfaces().SelectMany(i => i.GetIPProperties().UnicastAddresses).Select(a => a.Address)
            .Where(a => a.AddressFamily is AddressFamily.InterNetwork or AddressFamily.InterNetworkV6 && !IPAddress.IsLoopback(a)),
    ];

    private sealed record Known(HashSet<IPAddress> Addresses, long Until);
}
