using System.Globalization;

namespace Sandbox.Isolation.Network;

/// <summary>What the interface of a machine is.</summary>
public enum GuestInterfaceKind
{
    /// <summary>A tap that a VMM opens.</summary>
    Tap,

    /// <summary>One end of a pair whose other end is in a container.</summary>
    Veth,
}

/// <summary>What `ip -batch` is told.</summary>
internal static class InterfaceScript
{
    private const string Guest = "eth0";
    private const string Door = NetworkPlan.InterfaceName;

    /// <summary>Our end. The guest's address is a fact and never asked for: nobody can answer in its place.</summary>
    public static string Ours(GuestInterfaceKind kind) =>
        (kind == GuestInterfaceKind.Veth ? $"link add {Door} type veth peer name {Guest} address {NetworkPlan.GuestMac}\n" : "")
        + string.Create(CultureInfo.InvariantCulture, $"""
            link set dev {Door} address {NetworkPlan.GatewayMac}
            address add {NetworkPlan.GatewayAddress}/{NetworkPlan.PrefixLength} dev {Door}
            link set dev {Door} up
            neighbour replace {NetworkPlan.GuestAddress} lladdr {NetworkPlan.GuestMac} nud permanent dev {Door}

            """);

    /// <summary>The guest's end goes to where a process is.</summary>
    public static string Move(int processId) => string.Create(CultureInfo.InvariantCulture, $"link set dev {Guest} netns {processId}\n");

    /// <summary>The guest's end, from inside of its namespace.</summary>
    public static string Theirs { get; } = string.Create(CultureInfo.InvariantCulture, $"""
        address add {NetworkPlan.GuestAddress}/{NetworkPlan.PrefixLength} dev {Guest}
        link set dev {Guest} up
        route add default via {NetworkPlan.GatewayAddress} dev {Guest}

        """);
}
