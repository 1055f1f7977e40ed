using System.Net;
using Sandbox.Isolation.Network;

namespace Sandbox.Isolation.TestSupport;

/// <summary>Addresses for documentation, which nobody has, as the public servers of tests.</summary>
public static class DocumentationServers
{
    public const string First = "198.51.100.7";
    public const string Second = "203.0.113.9";

    /// <summary>Networks in which those addresses can be opened.</summary>
    public static GuestNetworkOptions Options { get; } = new()
    {
        NotPublic = [.. NotPublicRanges.Default.Where(n => !n.Contains(IPAddress.Parse(First)) && !n.Contains(IPAddress.Parse(Second)))],
    };
}
