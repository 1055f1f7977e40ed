using System.Buffers.Binary;
using System.Net;
using System.Net.Sockets;

namespace Sandbox.Egress.Proxy;

/// <summary>Which addresses are of the public internet. IPv4 only: a guest has no other, and what is not known to be public is not.</summary>
public static class PublicAddresses
{
    // IANA's registry of special-purpose addresses, less nothing: an address there that happens to be routed is no loss.
    private static readonly (uint Network, int Bits)[] Special =
    [
        (0x00000000, 8),  // this network
        (0x0A000000, 8),  // private
        (0x64400000, 10), // carrier-grade NAT, and some clouds' metadata
        (0x7F000000, 8),  // loopback
        (0xA9FE0000, 16), // link-local, and most clouds' metadata
        (0xAC100000, 12), // private
        (0xC0000000, 24), // protocol assignments
        (0xC0000200, 24), // documentation
        (0xC0586300, 24), // 6to4 relays
        (0xC0A80000, 16), // private
        (0xC6120000, 15), // benchmarks
        (0xC6336400, 24), // documentation
        (0xCB007100, 24), // documentation
        (0xE0000000, 4),  // multicast
        (0xF0000000, 4),  // reserved, broadcast
        (0xA83F8110, 32), // 168.63.129.16: Azure's host
    ];

    /// <summary>Whether an address is public. An IPv4 address in the form of IPv6 counts as what it is; every other IPv6 address is not public.</summary>
    /// <param name="address">An address.</param>
    public static bool Contains(IPAddress address)
    {
        ArgumentNullException.ThrowIfNull(address);
        if (address.IsIPv4MappedToIPv6)
        {
            address = address.MapToIPv4();
        }

        Span<byte> bytes = stackalloc byte[4];
        if (address.AddressFamily != AddressFamily.InterNetwork || !address.TryWriteBytes(bytes, out _))
        {
            return false;
        }

        var value = BinaryPrimitives.ReadUInt32BigEndian(bytes);
        foreach (var (network, bits) in Special)
        {
            if ((value ^ network) >> (32 - bits) == 0)
            {
                return false;
            }
        }

        return true;
    }
}
