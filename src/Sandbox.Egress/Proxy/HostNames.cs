using System.Net;

namespace Sandbox.Egress.Proxy;

/// <summary>Names as connections state them.</summary>
internal static class HostNames
{
    /// <summary>Lower case, without a final dot; <see langword="null"/> where it is not the name of a host: wrong characters or lengths, or an address.</summary>
    public static string? Normalize(ReadOnlySpan<char> name)
    {
        if (name is [.. var without, '.'])
        {
            name = without;
        }

        if (name.Length is 0 or > 253)
        {
            return null;
        }

        var label = 0;
        foreach (var c in name)
        {
            if (c == '.')
            {
                if (label == 0)
                {
                    return null;
                }

                label = 0;
            }
            else if (!(char.IsAsciiLetterOrDigit(c) || c is '-' or '_') || ++label > 63)
            {
                return null;
            }
        }

        // What programs take for an address is no name, in whatever odd form (0x7f.1, 2130706433): no top-level domain begins with a digit.
        var last = name[(name.LastIndexOf('.') + 1)..];
        return label == 0 || char.IsAsciiDigit(last[0]) || IPAddress.TryParse(name, out _) ? null : name.ToString().ToLowerInvariant();
    }
}
