using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;

namespace Sandbox.Egress.Secrets;

/// <summary>The forms that a secret comes back in: raw, base64, URL-encoded, escaped as in JSON.</summary>
internal static class SecretForms
{
    /// <summary>Least characters of a form. Shorter ones would be found by chance in everything; a secret that is shorter is not looked for in responses.</summary>
    public const int MinLength = 6;

    /// <summary>The forms of a value, without those that are too short to be told from chance.</summary>
    public static IReadOnlyList<string> Of(string value)
    {
        if (value.Length < MinLength)
        {
            return [];
        }

        var forms = new HashSet<string>(StringComparer.Ordinal) { value, Uri.EscapeDataString(value), LowerEscapes(Uri.EscapeDataString(value)), Uri.EscapeDataString(value).Replace("%20", "+", StringComparison.Ordinal) };
        forms.Add(JsonEncodedText.Encode(value, JavaScriptEncoder.UnsafeRelaxedJsonEscaping).Value);
        forms.Add(JsonEncodedText.Encode(value).Value);
        forms.Add(value.Replace("\\", "\\\\", StringComparison.Ordinal).Replace("\"", "\\\"", StringComparison.Ordinal).Replace("/", "\\/", StringComparison.Ordinal));
        foreach (var form in Base64(Encoding.UTF8.GetBytes(value)))
        {
            forms.Add(form);
            forms.Add(form.Replace('+', '-').Replace('/', '_'));
        }

        return [.. forms.Where(f => f.Length >= MinLength)];
    }

    // Base64 depends on what stands before. For each of the three positions, the characters that the value alone decides; the first one is the whole encoding with nothing before it.
    private static IEnumerable<string> Base64(byte[] value)
    {
        for (var before = 0; before < 3; before++)
        {
            var bits = value.Length * 8;
            var text = Convert.ToBase64String([.. new byte[before], .. value]);
            var first = ((before * 8) + 5) / 6;
            var last = ((before * 8) + bits) / 6;
            if (last - first >= Math.Max(MinLength, 8))
            {
                yield return text[first..last];
            }
        }
    }

    private static string LowerEscapes(string text)
    {
        var chars = text.ToCharArray();
        for (var i = 0; i + 2 < chars.Length; i++)
        {
            if (chars[i] == '%')
            {
                chars[i + 1] = char.ToLowerInvariant(chars[i + 1]);
                chars[i + 2] = char.ToLowerInvariant(chars[i + 2]);
            }
        }

        return new string(chars);
    }
}
