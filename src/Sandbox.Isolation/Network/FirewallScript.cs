using System.Globalization;
using System.Net;
using System.Net.Sockets;
using System.Text;

namespace Sandbox.Isolation.Network;

/// <summary>
/// What `nft` is told. Nothing a guest or a user has written ever gets in here as text: addresses and numbers are parsed before and formatted here. docs/network.md says what each part is for.
/// </summary>
internal static class FirewallScript
{
    /// <summary>The table of packets of IP.</summary>
    public const string Table = "inet sandbox";

    /// <summary>The table of frames. Of the family "netdev": that of "inet" has such a hook too, but passes on what is neither IPv4 nor IPv6 without looking.</summary>
    private const string DoorTable = "netdev sandbox";

    /// <summary>Most ranges at a time: they are rules, gone through one after the other for each new connection.</summary>
    public const int MaxRanges = 1024;

    private static readonly TimeSpan MaxLifetime = TimeSpan.FromDays(1);

    /// <summary>
    /// The whole firewall of a new network. Hooks in the order in which a packet meets them: "door" sees every frame before anything else does; "before" decides; "redirected" turns what was let in to the proxy; "input",
    /// "forward" and "output" let nothing pass that the others have not meant to.
    /// </summary>
    public static string Rules(GuestNetworkOptions options)
    {
        var door = NetworkPlan.InterfaceName;
        var (guest, gateway, mac) = (NetworkPlan.GuestAddress, NetworkPlan.GatewayAddress, NetworkPlan.GuestMac);
        var never = string.Join(", ", options.NotPublic.Append(OwnNetwork).Select(Show));
        return string.Create(CultureInfo.InvariantCulture, $$"""
            table {{DoorTable}} {
              counter drop_spoofed { }
              counter drop_rate { }
              counter drop_other { }
              chain door {
                type filter hook ingress device "{{door}}" priority 0; policy accept;
                limit rate over {{options.PacketsPerSecond}}/second burst {{options.PacketsPerSecond}} packets counter name drop_rate drop
                ether saddr != {{mac}} counter name drop_spoofed drop
                ether type arp arp htype 1 arp ptype ip arp hlen 6 arp plen 4 arp operation request arp saddr ether {{mac}} arp saddr ip {{guest}} arp daddr ip {{gateway}} accept
                ether type arp counter name drop_spoofed drop
                ether type != ip counter name drop_other drop
                ip saddr != {{guest}} counter name drop_spoofed drop
                ip frag-off & 0x3fff != 0 counter name drop_other drop
              }
            }
            table {{Table}} {
              counter drop_tcp { }
              counter drop_udp { }
              counter drop_not_public { }
              counter drop_rate { }
              counter drop_other { }
              set never { type ipv4_addr; flags interval; auto-merge; elements = { {{never}} } }
              set open { type ipv4_addr . inet_service; flags timeout; size {{options.MaxOpen}}; }
              chain ranges { }
              chain stateless {
                type filter hook prerouting priority raw; policy accept;
                ip daddr {{gateway}} udp dport {{NetworkPlan.DnsPort}} notrack
              }
              chain before {
                type filter hook prerouting priority mangle; policy drop;
                iifname != "{{door}}" counter name drop_other drop
                ip daddr {{gateway}} udp dport {{NetworkPlan.DnsPort}} limit rate over {{options.QuestionsPerSecond}}/second burst {{options.QuestionsPerSecond}} packets counter name drop_rate drop
                ip daddr {{gateway}} udp dport {{NetworkPlan.DnsPort}} accept
                ip protocol != tcp ip daddr @never counter name drop_not_public drop
                ip protocol udp counter name drop_udp drop
                ip protocol != tcp counter name drop_other drop
                ct state established accept
                ip daddr {{gateway}} tcp dport != {{NetworkPlan.DnsPort}} counter name drop_not_public reject with tcp reset
                ip daddr != {{gateway}} ip daddr @never counter name drop_not_public reject with tcp reset
                ct state != new counter name drop_tcp reject with tcp reset
                tcp flags & (fin | syn | rst | ack) != syn counter name drop_tcp reject with tcp reset
                limit rate over {{options.ConnectionsPerSecond}}/second burst {{options.ConnectionsPerSecond * 4}} packets counter name drop_rate drop
                ip daddr {{gateway}} accept
                ip daddr . tcp dport @open accept
                jump ranges
                counter name drop_tcp reject with tcp reset
              }
              chain redirected {
                type nat hook prerouting priority dstnat; policy accept;
                ip protocol tcp ip daddr != {{gateway}} redirect to :{{NetworkPlan.ProxyPort}}
              }
              chain input {
                type filter hook input priority filter; policy drop;
                ip daddr {{gateway}} tcp dport { {{NetworkPlan.DnsPort}}, {{NetworkPlan.ProxyPort}} } accept
                ip daddr {{gateway}} udp dport {{NetworkPlan.DnsPort}} accept
                counter name drop_other
              }
              chain forward {
                type filter hook forward priority filter; policy drop;
                counter name drop_other
              }
              chain answers {
                type filter hook output priority raw; policy accept;
                ip saddr {{gateway}} udp sport {{NetworkPlan.DnsPort}} notrack
              }
              chain output {
                type filter hook output priority filter; policy drop;
                ip daddr {{guest}} udp sport {{NetworkPlan.DnsPort}} accept
                ip daddr {{guest}} ct state established,related accept
                ip daddr {{guest}} tcp flags & rst == rst accept
                ip daddr {{guest}} icmp type destination-unreachable accept
              }
            }

            """);
    }

    /// <summary>
    /// Opens endpoints. The kernel leaves an element that is there already as it is, and what is not there cannot be removed: so it is added, removed, and added with its new time, in one step.
    /// </summary>
    /// <exception cref="ArgumentException">One is no IPv4 endpoint, or its time is out of range.</exception>
    public static string Open(IReadOnlyList<OpenEndpoint> endpoints)
    {
        var script = new StringBuilder();
        if (Elements(endpoints) is { Count: > 0 } elements)
        {
            var (bare, timed) = (string.Join(", ", elements.Keys), Timed(elements));
            script.Append(CultureInfo.InvariantCulture, $"add element {Table} open {{ {timed} }}\ndelete element {Table} open {{ {bare} }}\nadd element {Table} open {{ {timed} }}\n");
        }

        return script.ToString();
    }

    /// <summary>Puts what is given in the place of all that is open.</summary>
    /// <exception cref="ArgumentException">Something is not IPv4, or out of range, or there are too many ranges.</exception>
    public static string Replace(IReadOnlyList<OpenRange> ranges, IReadOnlyList<OpenEndpoint> endpoints)
    {
        if (ranges.Count > MaxRanges)
        {
            throw new ArgumentException($"{ranges.Count} ranges; at most {MaxRanges} can be open in one network.", nameof(ranges));
        }

        var script = new StringBuilder().Append(CultureInfo.InvariantCulture, $"flush set {Table} open\nflush chain {Table} ranges\n");
        foreach (var range in ranges)
        {
            if (range.Network.BaseAddress.AddressFamily != AddressFamily.InterNetwork || range is not { FirstPort: >= 1, LastPort: <= 65535 } || range.FirstPort > range.LastPort)
            {
                throw new ArgumentException($"{range.Network} ports {range.FirstPort} to {range.LastPort} is no range of IPv4 addresses and TCP ports.", nameof(ranges));
            }

            var address = range.Network.PrefixLength == 0 ? "" : $"ip daddr {Show(range.Network)} ";
            script.Append(CultureInfo.InvariantCulture, $"add rule {Table} ranges {address}tcp dport {range.FirstPort}-{range.LastPort} accept\n");
        }

        if (Elements(endpoints) is { Count: > 0 } elements)
        {
            script.Append(CultureInfo.InvariantCulture, $"add element {Table} open {{ {Timed(elements)} }}\n");
        }

        return script.ToString();
    }

    private static IPNetwork OwnNetwork { get; } = new(IPAddress.Parse("10.53.0.0"), NetworkPlan.PrefixLength);

    /// <summary>Each once, with the longest of its times: nft takes no element twice.</summary>
    private static SortedDictionary<string, long> Elements(IReadOnlyList<OpenEndpoint> endpoints)
    {
        var elements = new SortedDictionary<string, long>(StringComparer.Ordinal);
        foreach (var (address, port, lifetime) in endpoints)
        {
            if (address.AddressFamily != AddressFamily.InterNetwork || port is < 1 or > 65535 || lifetime <= TimeSpan.Zero || lifetime > MaxLifetime)
            {
                throw new ArgumentException($"{address} port {port} for {lifetime} is no endpoint that can be opened: an IPv4 address, a port of 1 to 65535, a time of at most a day.", nameof(endpoints));
            }

            var key = string.Create(CultureInfo.InvariantCulture, $"{address} . {port}");
            elements[key] = Math.Max(elements.GetValueOrDefault(key), (long)Math.Ceiling(lifetime.TotalSeconds));
        }

        return elements;
    }

    private static string Timed(SortedDictionary<string, long> elements) =>
        string.Join(", ", elements.Select(e => string.Create(CultureInfo.InvariantCulture, $"{e.Key} timeout {e.Value}s")));

    private static string Show(IPNetwork network) => string.Create(CultureInfo.InvariantCulture, $"{network.BaseAddress}/{network.PrefixLength}");
}
