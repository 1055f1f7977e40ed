using System.Text.RegularExpressions;

namespace Sandbox.Egress.Audit;

/// <summary>What was found in a text.</summary>
/// <param name="Kind">For people; never what was found.</param>
/// <param name="At">Where.</param>
internal readonly record struct Finding(string Kind, Range At);

/// <summary>Finds credentials. All expressions run without backtracking: time grows with the text's length and not with what is in it.</summary>
internal static class SecretPatterns
{
    private const int MaxFindings = 100;
    private const int MaxEncodedRuns = 64;

    private static readonly Pattern[] Patterns =
    [
        new("an AWS access key", @"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b", "AKIA", "ASIA"),
        new("an AWS secret key", @"(?i)aws.{0,20}secret.{0,20}[:=]\W{0,4}[A-Za-z0-9/+]{40}", "aws", "AWS"),
        new("a Google API key", @"\bAIza[0-9A-Za-z_\-]{35}", "AIza"),
        new("a Google OAuth token", @"\bya29\.[0-9A-Za-z_\-]{20,}", "ya29."),
        new("an Azure storage key", @"AccountKey=[A-Za-z0-9+/=]{64,100}", "AccountKey="),
        new("a private key", @"-----BEGIN [A-Z ]{0,30}PRIVATE KEY(?: BLOCK)?-----", "PRIVATE KEY"),
        new("a PuTTY private key", @"PuTTY-User-Key-File-[0-9]", "PuTTY-User-Key-File"),
        new("a GitHub token", @"\bgh[pousr]_[A-Za-z0-9]{36,255}", "ghp_", "gho_", "ghu_", "ghs_", "ghr_"),
        new("a GitHub token", @"\bgithub_pat_[A-Za-z0-9_]{22,255}", "github_pat_"),
        new("a GitLab token", @"\bglpat-[A-Za-z0-9_\-]{20,}", "glpat-"),
        new("a Slack token", @"\bxox[abeprs]-[A-Za-z0-9\-]{10,}", "xox"),
        new("a Slack webhook", @"hooks\.slack\.com/services/T[A-Z0-9]{5,}/B[A-Z0-9]{5,}/[A-Za-z0-9]{16,}", "hooks.slack.com"),
        new("an API key of a model's provider", @"\bsk-[A-Za-z0-9_\-]{20,}", "sk-"),
        new("a Stripe key", @"\b[sr]k_live_[A-Za-z0-9]{16,}", "_live_"),
        new("an npm token", @"\bnpm_[A-Za-z0-9]{36}", "npm_"),
        new("a PyPI token", @"\bpypi-[A-Za-z0-9_\-]{50,}", "pypi-"),
        new("a Hugging Face token", @"\bhf_[A-Za-z0-9]{30,}", "hf_"),
        new("a SendGrid key", @"\bSG\.[A-Za-z0-9_\-]{16,}\.[A-Za-z0-9_\-]{16,}", "SG."),
        new("a JSON web token", @"\beyJ[A-Za-z0-9_\-]{8,}\.eyJ[A-Za-z0-9_\-]{8,}\.[A-Za-z0-9_\-]{8,}", "eyJ"),
        new("credentials in an address", @"\b[a-z][a-z0-9+.\-]{1,20}://[^/\s:@""'<>]{1,64}:[^/\s:@""'<>]{3,128}@", "://"),
    ];

    private static readonly Regex Assigned = Make(@"(?i)(?:passw(?:or)?d|secret|token|api[_\-]?key|credential|private[_\-]?key)[a-z0-9_\-]{0,20}[""']?\s{0,4}(?::|=|%3d)\s{0,4}[""']?(?<value>[A-Za-z0-9+/=_.\-!@#$%^*~]{16,200})");
    private static readonly Regex Encoded = Make(@"[A-Za-z0-9+/_\-]{40,}={0,2}");

    /// <summary>Credentials in a text, also behind one layer of base64.</summary>
    public static List<Finding> Find(string text)
    {
        var findings = Plain(text);
        var runs = 0;
        for (var match = Encoded.Match(text); match.Success && runs < MaxEncodedRuns && findings.Count < MaxFindings; match = match.NextMatch(), runs++)
        {
            // A run's beginning may not be the encoding's: what stands before it belongs to the alphabet too.
            for (var skip = 0; skip < 4; skip++)
            {
                if (Decode(match.ValueSpan[skip..]) is { } decoded && Plain(decoded) is [var inner, ..])
                {
                    findings.Add(new Finding($"{inner.Kind} in base64", match.Index..(match.Index + match.Length)));
                    break;
                }
            }
        }

        return findings;
    }

    /// <summary>Makes an expression that cannot be made to run long.</summary>
    public static Regex Make(string expression) => new(expression, RegexOptions.NonBacktracking | RegexOptions.CultureInvariant);

    /// <summary>Bits in a character of a text.</summary>
    public static double Entropy(ReadOnlySpan<char> text)
    {
        var counts = new Dictionary<char, int>();
        foreach (var c in text)
        {
            counts[c] = counts.GetValueOrDefault(c) + 1;
        }

        var entropy = 0.0;
        foreach (var count in counts.Values)
        {
            var share = (double)count / text.Length;
            entropy -= share * Math.Log2(share);
        }

        return entropy;
    }

    private static List<Finding> Plain(string text)
    {
        var findings = new List<Finding>();
        foreach (var pattern in Patterns)
        {
            if (!pattern.MayBeIn(text))
            {
                continue;
            }

            for (var match = pattern.Expression.Match(text); match.Success && findings.Count < MaxFindings; match = match.NextMatch())
            {
                if (!match.ValueSpan.Contains(Secrets.Placeholders.Prefix, StringComparison.Ordinal))
                {
                    findings.Add(new Finding(pattern.Kind, match.Index..(match.Index + match.Length)));
                }
            }
        }

        for (var match = Assigned.Match(text); match.Success && findings.Count < MaxFindings; match = match.NextMatch())
        {
            var value = match.Groups["value"];

            // Words and examples have few different letters and no digits; a placeholder of ours is no secret.
            if (Entropy(value.ValueSpan) >= 3.2 && value.Value.Any(char.IsAsciiDigit) && value.Value.Any(char.IsAsciiLetter) && !value.Value.StartsWith(Secrets.Placeholders.Prefix, StringComparison.Ordinal))
            {
                findings.Add(new Finding("a value that looks like a credential", value.Index..(value.Index + value.Length)));
            }
        }

        return findings;
    }

    private static string? Decode(ReadOnlySpan<char> run)
    {
        var text = run.TrimEnd('=').ToString().Replace('-', '+').Replace('_', '/');
        text = text[..(text.Length - (text.Length % 4 == 1 ? 1 : 0))];
        var bytes = new byte[text.Length];
        return Convert.TryFromBase64String(text + new string('=', (4 - (text.Length % 4)) % 4), bytes, out var count) ? System.Text.Encoding.Latin1.GetString(bytes, 0, count) : null;
    }

    private sealed class Pattern(string kind, string expression, params string[] marks)
    {
        public string Kind => kind;

        public Regex Expression { get; } = Make(expression);

        // A search for a few letters is many times faster than an expression.
        public bool MayBeIn(string text) => Array.Exists(marks, m => text.Contains(m, StringComparison.Ordinal));
    }
}
