using System.Globalization;
using System.Net;
using System.Text.RegularExpressions;
using Sandbox.Egress.Policy;

namespace Sandbox.Egress.Audit;

/// <summary>Finds addresses of inner services in what a request says, in every way of writing them: somebody else's server is to be talked into asking them.</summary>
internal static class ForgedTargets
{
    private const int MaxUrls = 500;
    private static readonly Regex Url = SecretPatterns.Make(@"(?i)\b(?<scheme>[a-z][a-z0-9+.\-]{1,15}):(?:\\?/){1,3}(?:[^/\s@""'<>]{0,100}@)?(?<host>\[[0-9a-f:.%]{2,60}\]|[a-z0-9_.\-]{1,255})?");
    private static readonly string[] Metadata = ["169.254.169.254", "metadata.google.internal", "100.100.100.200", "fd00:ec2::254", "168.63.129.16"];
    private static readonly HashSet<string> Schemes = new(StringComparer.OrdinalIgnoreCase) { "http", "https", "ftp", "ws", "wss", "gopher", "dict", "ldap", "tftp" };

    /// <summary>What kind of inner address a text names, or <see langword="null"/>.</summary>
    public static string? Find(string text, PublicAddresses addresses)
    {
        if (Array.Exists(Metadata, m => text.Contains(m, StringComparison.OrdinalIgnoreCase)))
        {
            return "the address of a cloud's metadata service";
        }

        var match = Url.Match(text);
        for (var i = 0; match.Success && i < MaxUrls; i++, match = match.NextMatch())
        {
            var scheme = match.Groups["scheme"].Value;
            if (scheme.Equals("file", StringComparison.OrdinalIgnoreCase) || scheme.Equals("gopher", StringComparison.OrdinalIgnoreCase))
            {
                return $"an address of the scheme {scheme.ToLowerInvariant()}";
            }

            if (Schemes.Contains(scheme) && IsInner(match.Groups["host"].Value, addresses))
            {
                return "an address that is not public";
            }
        }

        return null;
    }

    private static bool IsInner(string host, PublicAddresses addresses)
    {
        host = HostNames.Normalise(host);
        if (host.StartsWith('['))
        {
            return IPAddress.TryParse(host.Trim('[', ']'), out var inner) && !addresses.IsPublic(inner);
        }

        return Legacy(host) is { } address ? !addresses.IsPublic(address) : host is "localhost" || Dns.SpecialNames.WhyNot(host) is not null;
    }

    /// <summary>An IPv4 address as C libraries read it: one to four parts, decimal, octal or hexadecimal.</summary>
    private static IPAddress? Legacy(string host)
    {
        var parts = host.Split('.');
        if (parts.Length > 4)
        {
            return null;
        }

        ulong bits = 0;
        for (var i = 0; i < parts.Length; i++)
        {
            if (Number(parts[i]) is not { } value)
            {
                return null;
            }

            var isLast = i == parts.Length - 1;
            var room = isLast ? 8 * (4 - i) : 8;
            if (value >= 1UL << room)
            {
                return null;
            }

            bits = (bits << room) | value;
        }

        return new IPAddress([(byte)(bits >> 24), (byte)(bits >> 16), (byte)(bits >> 8), (byte)bits]);
    }

    private static ulong? Number(string text)
    {
        if (text.StartsWith("0x", StringComparison.Ordinal))
        {
            return ulong.TryParse(text.AsSpan(2), NumberStyles.HexNumber, CultureInfo.InvariantCulture, out var hex) ? hex : null;
        }

        if (text.Length is 0 or > 12 || !text.All(char.IsAsciiDigit))
        {
            return null;
        }

        return text[0] == '0' && text.All(c => c < '8') ? Convert.ToUInt64(text, 8) : ulong.Parse(text, CultureInfo.InvariantCulture);
    }
}
