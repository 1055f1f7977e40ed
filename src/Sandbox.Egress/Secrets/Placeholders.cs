using System.Security.Cryptography;

namespace Sandbox.Egress.Secrets;

/// <summary>What stands in a guest in the place of a secret: <c>sbxs_NAME_</c> and 24 random characters (120 bits). Worth nothing outside of the proxy.</summary>
public static class Placeholders
{
    /// <summary>What all begin with.</summary>
    public const string Prefix = "sbxs_";

    private const int RandomLength = 24;
    private const string Alphabet = "abcdefghijklmnopqrstuvwxyz234567";

    /// <summary>A new one for a secret of this name. Letters, digits and '_' only, so that programs take it for a token and no encoding changes it.</summary>
    /// <exception cref="ArgumentException">It is no name of a secret.</exception>
    public static string New(string name) =>
        SecretValidation.IsName(name) ? $"{Prefix}{name.Replace('-', '_')}_{RandomNumberGenerator.GetString(Alphabet, RandomLength)}" : throw new ArgumentException($"'{name}' is no name of a secret.", nameof(name));

    /// <summary>Whether a text is the form of a placeholder.</summary>
    public static bool IsOne(string text)
    {
        ArgumentNullException.ThrowIfNull(text);
        return text.Length is > 30 and <= 128 && text.StartsWith(Prefix, StringComparison.Ordinal) && text.All(c => char.IsAsciiLetterLower(c) || char.IsAsciiDigit(c) || c == '_');
    }
}
