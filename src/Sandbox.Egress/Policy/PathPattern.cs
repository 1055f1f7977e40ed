using System.Diagnostics.CodeAnalysis;

namespace Sandbox.Egress.Policy;

/// <summary>A path of a rule: exact, or everything that begins so.</summary>
internal sealed class PathPattern
{
    private readonly string _text;
    private readonly bool _prefix;

    private PathPattern(string text, bool prefix)
    {
        _text = text;
        _prefix = prefix;
    }

    /// <summary>Whether a normalised path falls under it.</summary>
    public bool Matches(string path) => _prefix ? path.StartsWith(_text, StringComparison.Ordinal) : string.Equals(path, _text, StringComparison.Ordinal);

    public static bool TryParse(string text, [NotNullWhen(true)] out PathPattern? pattern, [NotNullWhen(false)] out string? error)
    {
        pattern = null;
        var prefix = text.EndsWith('*');
        var path = prefix ? text[..^1] : text;
        error = text.Length is 0 or > 1024 ? $"is {text.Length} characters long; a path is 1 to 1024."
            : text[0] != '/' ? "does not begin with '/'."
            : path.Contains('*') ? "has a '*' before its end; allowed are an exact path (/simple/) and everything that begins so (/simple/*)."
            : null;
        if (error is not null)
        {
            return false;
        }

        if (RequestPaths.Normalise(path) is not { } normal)
        {
            error = "cannot be compared: it has a query, a fragment, a backslash, a control character, an encoded slash or a broken encoding.";
            return false;
        }

        pattern = new PathPattern(normal, prefix);
        return true;
    }
}
