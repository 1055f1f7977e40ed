using System.Text.RegularExpressions;

namespace Sandbox.Egress.Audit;

/// <summary>Finds personal data whose form can be checked: card numbers, bank accounts, US social security numbers, and e-mail addresses where there are many.</summary>
internal static class PersonalData
{
    /// <summary>So many different e-mail addresses are a list.</summary>
    public const int MinEmails = 20;

    private const int MaxFindings = 1000;
    private static readonly Regex Card = SecretPatterns.Make(@"\b(?:[0-9][ \-]?){12,18}[0-9]\b");
    private static readonly Regex Iban = SecretPatterns.Make(@"\b[A-Z]{2}[0-9]{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b");
    private static readonly Regex Ssn = SecretPatterns.Make(@"\b[0-9]{3}-[0-9]{2}-[0-9]{4}\b");
    private static readonly Regex Email = SecretPatterns.Make(@"\b[A-Za-z0-9._%+\-]{1,64}@[A-Za-z0-9.\-]{1,190}\.[A-Za-z]{2,24}\b");

    public static List<Finding> Find(string text)
    {
        var findings = new List<Finding>();
        foreach (var match in Matches(Card, text))
        {
            if (IsCard(match.ValueSpan))
            {
                findings.Add(Of("a card number", match.Index, match.Length));
            }
        }

        foreach (var match in Matches(Iban, text))
        {
            // The last group may be the next word.
            for (var value = match.Value; value.Length >= 15; value = value.LastIndexOf(' ') is > 0 and var cut ? value[..cut] : "")
            {
                if (IsIban(value))
                {
                    findings.Add(Of("a bank account (IBAN)", match.Index, value.Length));
                    break;
                }
            }
        }

        foreach (var match in Matches(Ssn, text))
        {
            var value = match.Value;
            if (value[..3] is not ("000" or "666") && value[0] != '9' && value[4..6] != "00" && value[7..] != "0000")
            {
                findings.Add(Of("a US social security number", match.Index, match.Length));
            }
        }

        var emails = Matches(Email, text).ToArray();
        if (emails.Select(m => m.Value).Distinct(StringComparer.OrdinalIgnoreCase).Count() >= MinEmails)
        {
            findings.AddRange(emails.Select(m => Of("a list of e-mail addresses", m.Index, m.Length)));
        }

        return findings;
    }

    private static Finding Of(string kind, int index, int length) => new(kind, index..(index + length));

    private static IEnumerable<Match> Matches(Regex expression, string text)
    {
        var match = expression.Match(text);
        for (var i = 0; match.Success && i < MaxFindings; i++, match = match.NextMatch())
        {
            yield return match;
        }
    }

    private static bool IsCard(ReadOnlySpan<char> text)
    {
        Span<int> digits = stackalloc int[19];
        var count = 0;
        foreach (var c in text)
        {
            if (char.IsAsciiDigit(c))
            {
                digits[count++] = c - '0';
            }
        }

        // The schemes' numbers begin with 2 to 6; what begins otherwise is a number of something else.
        if (count < 13 || digits[0] is < 2 or > 6)
        {
            return false;
        }

        var sum = 0;
        for (var i = 0; i < count; i++)
        {
            var digit = digits[count - 1 - i] * (i % 2 == 1 ? 2 : 1);
            sum += digit > 9 ? digit - 9 : digit;
        }

        return sum % 10 == 0 && digits[..count].IndexOfAnyExcept(digits[0]) >= 0;
    }

    private static bool IsIban(string text)
    {
        var compact = text.Replace(" ", "", StringComparison.Ordinal);
        if (compact.Length is < 15 or > 34)
        {
            return false;
        }

        var rest = 0;
        foreach (var c in compact[4..] + compact[..4])
        {
            rest = char.IsAsciiDigit(c) ? ((rest * 10) + (c - '0')) % 97 : ((rest * 100) + (c - 'A' + 10)) % 97;
        }

        return rest == 1;
    }
}
