using System.Text;

namespace Sandbox.Egress.Policy;

/// <summary>Brings the path of a request to one form, so that a rule cannot be passed by writing the same path otherwise.</summary>
public static class RequestPaths
{
    private static readonly UTF8Encoding Strict = new(false, throwOnInvalidBytes: true);

    /// <summary>
    /// The one form of a path: decoded once, dot segments and repeated slashes removed. <see langword="null"/> where servers do not agree on what it means, which a rule with paths then refuses: an encoded slash, a backslash,
    /// NUL or another control character, an encoding of an encoding, invalid UTF-8, a dot segment with parameters.
    /// </summary>
    public static string? Normalise(string path)
    {
        ArgumentNullException.ThrowIfNull(path);
        return path == "*" ? path : path.Length == 0 || path[0] != '/' ? null : Decode(path) is { } decoded ? WithoutDots(decoded) : null;
    }

    private static string? Decode(string path)
    {
        var bytes = new byte[Encoding.UTF8.GetMaxByteCount(path.Length)];
        var count = 0;
        for (var i = 0; i < path.Length; i++)
        {
            var c = path[i];
            if (c == '%')
            {
                if (i + 2 >= path.Length || !char.IsAsciiHexDigit(path[i + 1]) || !char.IsAsciiHexDigit(path[i + 2]))
                {
                    return null;
                }

                var value = (Convert.ToInt32(path.Substring(i + 1, 2), 16));

                // "%252e": a server that decodes twice would see a dot where we see "%2e".
                if (value is '/' or '\\' or < 0x20 or 0x7f
                    || (value == '%' && i + 4 < path.Length && char.IsAsciiHexDigit(path[i + 3]) && char.IsAsciiHexDigit(path[i + 4])))
                {
                    return null;
                }

                bytes[count++] = (byte)value;
                i += 2;
            }
            else if (c is '\\' or '#' or '?' or < ' ' or '\x7f' || char.IsSurrogate(c))
            {
                return null;
            }
            else
            {
                count += Encoding.UTF8.GetBytes([c], bytes.AsSpan(count));
            }
        }

        try
        {
            return Strict.GetString(bytes, 0, count);
        }
        catch (ArgumentException)
        {
            return null;
        }
    }

    private static string? WithoutDots(string path)
    {
        var kept = new List<string>();
        var segments = path.Split('/');
        for (var i = 1; i < segments.Length; i++)
        {
            var segment = segments[i];
            if (segment.StartsWith(".;", StringComparison.Ordinal) || segment.StartsWith("..;", StringComparison.Ordinal))
            {
                // Some servers cut parameters off before they look at dots.
                return null;
            }

            if (segment == ".." && kept.Count > 0)
            {
                kept.RemoveAt(kept.Count - 1);
            }

            if (segment is not ("" or "." or ".."))
            {
                kept.Add(segment);
            }
        }

        var directory = segments[^1] is "" or "." or "..";
        return kept.Count == 0 ? "/" : "/" + string.Join('/', kept) + (directory ? "/" : "");
    }
}
