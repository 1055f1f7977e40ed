using System.Text;
using Sandbox.Guest.Protocol;

namespace Sandbox.Isolation.Guest.Validation;

/// <summary>Text that came from a guest: measured, and made fit to be shown.</summary>
internal static class GuestText
{
    /// <summary>
    /// Clips to <paramref name="maxBytes"/> of UTF-8 on a character's boundary and replaces control and formatting characters (terminal
    /// escapes, bidirectional overrides, line breaks other than <c>\n</c>) by spaces, so that a message cannot forge a log line or drive a terminal.
    /// </summary>
    public static string Clean(string text, int maxBytes)
    {
        var result = new StringBuilder(Math.Min(text.Length, maxBytes));
        var bytes = 0;
        foreach (var rune in text.EnumerateRunes())
        {
            bytes += rune.Utf8SequenceLength;
            if (bytes > maxBytes)
            {
                break;
            }

            var harmful = rune.Value is not ('\n' or '\t') && Rune.GetUnicodeCategory(rune) is System.Globalization.UnicodeCategory.Control
                or System.Globalization.UnicodeCategory.Format
                or System.Globalization.UnicodeCategory.LineSeparator
                or System.Globalization.UnicodeCategory.ParagraphSeparator
                or System.Globalization.UnicodeCategory.PrivateUse
                or System.Globalization.UnicodeCategory.OtherNotAssigned;
            result.Append(harmful ? " " : rune.ToString());
        }

        return result.ToString();
    }

    /// <summary>Refuses text over a limit. The text itself is not repeated in the message.</summary>
    public static void RequireAtMost(string text, int maxBytes, string what)
    {
        // A UTF-16 unit is one to three bytes: only texts in between need counting.
        if (text.Length > maxBytes || (text.Length > maxBytes / 3 && Encoding.UTF8.GetByteCount(text) > maxBytes))
        {
            throw new ProtocolException($"{what} is longer than {maxBytes} bytes.");
        }
    }

    /// <summary>Refuses what cannot be a path or a name in a Linux guest: too long, or with a NUL.</summary>
    public static void RequirePath(string path, string what, bool mayBeEmpty = false)
    {
        RequireAtMost(path, ProtocolLimits.MaxPathBytes, what);
        if (path.Contains('\0', StringComparison.Ordinal) || (path.Length == 0 && !mayBeEmpty))
        {
            throw new ProtocolException($"{what} is empty or holds a NUL.");
        }
    }
}
