using System.Net;
using System.Text.Json;
using Sandbox.Abstractions;

namespace Sandbox.E2b.Control;

/// <summary>
/// E2B's rules as an egress policy. Their order there: what is allowed goes before what is denied, and what neither names is reachable where there is internet access. Rules that name domains hold for HTTP and TLS, as there.
/// </summary>
internal static class NetworkRules
{
    private const string All = "0.0.0.0/0";

    /// <summary>The policy that a body asks for, or <see langword="null"/> where it says nothing of what may leave: the tenant's default is for that.</summary>
    /// <exception cref="SandboxException">An entry is none, or something is asked for that is not offered.</exception>
    public static EgressPolicy? From(NetworkBody? network, bool? internet)
    {
        network?.RefuseWhatIsNotThere();
        var (allow, deny) = (network?.AllowOut ?? [], network?.DenyOut ?? []);
        internet ??= network?.AllowInternetAccess;
        if (internet is null && allow.Count == 0 && deny.Count == 0)
        {
            return null;
        }

        // Who names what is allowed and denies all else, or turns the internet off, wants nothing else; who only denies some wants the rest.
        var open = internet ?? (allow.Count == 0 && !deny.Contains(All));
        List<EgressRule> rules = [.. allow.SelectMany(Allowed), .. deny.Where(d => d != All).Select(Denied)];
        return open && !deny.Contains(All)
            ? new EgressPolicy { Rules = [.. rules, .. EgressPolicy.Internet.Rules] }
            : new EgressPolicy { Rules = rules };
    }

    private static IEnumerable<EgressRule> Allowed(string entry)
    {
        if (Range(entry) is { } range)
        {
            yield return new EgressRule { Action = EgressAction.Allow, Cidr = range };

            // A name that leads there may be resolved: the address is what was allowed.
            if (range == All)
            {
                yield return new EgressRule { Action = EgressAction.Allow, Host = "*" };
            }
        }
        else
        {
            yield return new EgressRule { Action = EgressAction.Allow, Host = entry };
        }
    }

    private static EgressRule Denied(string entry) => Range(entry) is { } range
        ? new EgressRule { Action = EgressAction.Deny, Cidr = range }
        : throw SandboxException.Invalid("network.denyOut", $"network.denyOut: '{entry}' is no IPv4 address or range in CIDR form; names can be allowed, not denied.");

    private static string? Range(string? entry) =>
        IPAddress.TryParse(entry, out var address) && entry.Count(c => c == '.') == 3 ? $"{address}/32" : IPNetwork.TryParse(entry, out _) ? entry : null;

    /// <summary>Whether a body has rules that change requests.</summary>
    public static bool HasTransforms(JsonElement? rules) => rules is { ValueKind: JsonValueKind.Object } map && map.EnumerateObject().Any();
}
