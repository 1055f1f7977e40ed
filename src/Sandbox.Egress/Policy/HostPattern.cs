using System.Diagnostics.CodeAnalysis;

namespace Sandbox.Egress.Policy;

/// <summary>The host of a rule or secret: a name, any name below one, or any name. Names to be matched are lower case ASCII without a final dot.</summary>
public sealed class HostPattern
{
    private readonly string _name;
    private readonly Kind _kind;

    private HostPattern(Kind kind, string name)
    {
        _kind = kind;
        _name = name;
    }

    private enum Kind
    {
        Exact,
        Below,
        Any,
    }

    /// <summary>It is <c>*</c>.</summary>
    public bool IsAny => _kind == Kind.Any;

    /// <summary>Whether a name falls under it.</summary>
    public bool Matches(string name)
    {
        ArgumentNullException.ThrowIfNull(name);
        return _kind switch
        {
            Kind.Any => true,
            Kind.Exact => string.Equals(name, _name, StringComparison.Ordinal),

            // The name begins with its dot, so that notpypi.org is not below pypi.org.
            _ => name.Length > _name.Length && name.EndsWith(_name, StringComparison.Ordinal),
        };
    }

    /// <summary>Reads a pattern.</summary>
    /// <param name="text">As written in a rule.</param>
    /// <param name="pattern">The pattern.</param>
    /// <param name="error">What is wrong and what is allowed, as the rest of a sentence that begins with the value.</param>
    public static bool TryParse(string text, [NotNullWhen(true)] out HostPattern? pattern, [NotNullWhen(false)] out string? error)
    {
        ArgumentNullException.ThrowIfNull(text);
        pattern = null;
        if (text == "*")
        {
            pattern = new HostPattern(Kind.Any, "*");
            error = null;
            return true;
        }

        var below = text.StartsWith("*.", StringComparison.Ordinal);
        var name = HostNames.Normalise(below ? text[2..] : text);
        error = HostNames.WhatIsWrong(name);
        if (error is not null)
        {
            return false;
        }

        pattern = below ? new HostPattern(Kind.Below, "." + name) : new HostPattern(Kind.Exact, name);
        return true;
    }

    /// <summary>As <see cref="TryParse"/>.</summary>
    /// <exception cref="ArgumentException">It is no pattern.</exception>
    public static HostPattern Parse(string text) => TryParse(text, out var pattern, out var error) ? pattern : throw new ArgumentException($"Host '{text}' {error}", nameof(text));

    /// <inheritdoc/>
    public override string ToString() => _kind == Kind.Below ? "*" + _name : _name;
}
