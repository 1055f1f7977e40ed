using System.Net;
using System.Net.Sockets;
using Sandbox.Isolation.Network;

namespace Sandbox.Egress.Policy;

/// <summary>Which addresses a session may reach at all, whatever its policy says: the public ones. One list for DNS, proxy, auditor and firewall. Immutable.</summary>
public sealed class PublicAddresses
{
    private readonly IPNetwork[] _alsoPublic;

    /// <summary>Makes a list.</summary>
    /// <param name="alsoPublic">Ranges that count as public although they are not, for tests against servers on loopback. Never set where untrusted code runs.</param>
    public PublicAddresses(IReadOnlyList<IPNetwork>? alsoPublic = null) => _alsoPublic = alsoPublic is null ? [] : [.. alsoPublic];

    /// <summary>The list without exceptions.</summary>
    public static PublicAddresses Default { get; } = new();

    /// <summary>IPv4 ranges that are never reachable.</summary>
    public static IReadOnlyList<IPNetwork> NotPublic => NotPublicRanges.Default;

    private static readonly IPNetwork GlobalUnicast6 = IPNetwork.Parse("2000::/3");

    // Ranges of IPv6 that hold documentation or an IPv4 address in disguise.
    private static readonly IPNetwork[] NotPublic6 = [IPNetwork.Parse("2001::/23"), IPNetwork.Parse("2001:db8::/32"), IPNetwork.Parse("2002::/16"), IPNetwork.Parse("3fff::/20")];

    /// <summary>Whether an address may be reached at all. An IPv4 address inside of an IPv6 one is judged as itself.</summary>
    public bool IsPublic(IPAddress address)
    {
        ArgumentNullException.ThrowIfNull(address);
        if (address.IsIPv4MappedToIPv6)
        {
            address = address.MapToIPv4();
        }

        foreach (var network in _alsoPublic)
        {
            if (network.Contains(address))
            {
                return true;
            }
        }

        return address.AddressFamily == AddressFamily.InterNetwork
            ? !NotPublic.Any(n => n.Contains(address))
            : GlobalUnicast6.Contains(address) && !Array.Exists(NotPublic6, n => n.Contains(address));
    }

    /// <summary>Whether a range of IPv4 holds no public address at all, so that a rule that allows it can only be a mistake.</summary>
    public bool IsWhollyNotPublic(IPNetwork network) =>
        NotPublic.Any(n => n.PrefixLength <= network.PrefixLength && n.Contains(network.BaseAddress))
        && !_alsoPublic.Any(n => n.Contains(network.BaseAddress) || network.Contains(n.BaseAddress));
}
