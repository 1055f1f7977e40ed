using System.Diagnostics.CodeAnalysis;
using System.Globalization;
using System.Net;

namespace Sandbox.Egress.Policy;

/// <summary>IPv4 addresses and ranges as rules write them. Stricter than the framework: no octal, no missing parts, no bits beyond the prefix.</summary>
public static class Cidrs
{
    /// <summary>Reads <c>192.0.2.7</c> or <c>192.0.2.0/24</c>.</summary>
    /// <param name="text">As written.</param>
    /// <param name="network">The range.</param>
    /// <param name="error">What is wrong, as the rest of a sentence.</param>
    public static bool TryParse(string text, out IPNetwork network, [NotNullWhen(false)] out string? error)
    {
        ArgumentNullException.ThrowIfNull(text);
        network = default;
        var slash = text.IndexOf('/', StringComparison.Ordinal);
        var prefix = 32;
        if (slash >= 0 && !(TryNumber(text.AsSpan(slash + 1), 32, out prefix)))
        {
            error = "has a prefix that is not a number from 0 to 32.";
            return false;
        }

        if (!TryAddress(slash < 0 ? text : text[..slash], out var bits))
        {
            error = "is no IPv4 address or range; allowed are 192.0.2.7 and 192.0.2.0/24, each part a decimal number from 0 to 255 without leading zeros. IPv6 is not reachable.";
            return false;
        }

        var mask = prefix == 0 ? 0u : uint.MaxValue << (32 - prefix);
        if ((bits & ~mask) != 0)
        {
            error = $"has bits beyond its prefix; did you mean {ToAddress(bits & mask)}/{prefix}?";
            return false;
        }

        network = new IPNetwork(ToAddress(bits), prefix);
        error = null;
        return true;
    }

    /// <summary>Reads an IPv4 address in its one ordinary form.</summary>
    public static bool TryParseAddress(string text, [NotNullWhen(true)] out IPAddress? address)
    {
        ArgumentNullException.ThrowIfNull(text);
        address = TryAddress(text, out var bits) ? ToAddress(bits) : null;
        return address is not null;
    }

    private static IPAddress ToAddress(uint bits) => new([(byte)(bits >> 24), (byte)(bits >> 16), (byte)(bits >> 8), (byte)bits]);

    private static bool TryAddress(string text, out uint bits)
    {
        bits = 0;
        var parts = text.Split('.');
        if (parts.Length != 4)
        {
            return false;
        }

        foreach (var part in parts)
        {
            if (!TryNumber(part, 255, out var value))
            {
                return false;
            }

            bits = (bits << 8) | (uint)value;
        }

        return true;
    }

    private static bool TryNumber(ReadOnlySpan<char> text, int max, out int value) =>
        int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out value) && value <= max && text.Length <= 3 && (text.Length == 1 || text[0] != '0');
}
