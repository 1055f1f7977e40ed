namespace Sandbox.Egress.Dns;

/// <summary>Names that never mean anything public: those of a local network, and what programs make by trying a search list's suffixes. They are not asked for upstream, whatever a policy says.</summary>
internal static class SpecialNames
{
    private static readonly string[] Suffixes = ["local", "localhost", "localdomain", "lan", "home", "internal", "home.arpa", "in-addr.arpa", "ip6.arpa", "cluster.local", "invalid", "onion", "alt"];

    public static string? WhyNot(string name)
    {
        if (!name.Contains('.', StringComparison.Ordinal))
        {
            return $"'{name}' is no public name";
        }

        var suffix = Array.Find(Suffixes, s => name.EndsWith("." + s, StringComparison.Ordinal) || name == s);
        return suffix is null ? null : $"names below {suffix} are not public";
    }
}
