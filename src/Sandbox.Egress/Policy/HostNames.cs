using System.Net;

namespace Sandbox.Egress.Policy;

/// <summary>Host names: their one form, and what is wrong with those that have none.</summary>
public static class HostNames
{
    /// <summary>Longest name in characters.</summary>
    public const int MaxLength = 253;

    /// <summary>Lower case, without a final dot. Says nothing about whether it is a name. Only ASCII letters change: what merely looks like one, such as the Kelvin sign, is in no name.</summary>
    public static string Normalise(string name)
    {
        ArgumentNullException.ThrowIfNull(name);
        return string.Create(name.EndsWith('.') ? name.Length - 1 : name.Length, name, static (lower, from) =>
        {
            for (var i = 0; i < lower.Length; i++)
            {
                lower[i] = char.IsAsciiLetterUpper(from[i]) ? (char)(from[i] | 0x20) : from[i];
            }
        });
    }

    /// <summary>A name as a guest states it, normalised; <see langword="null"/> where it is not the name of a host: wrong characters or lengths, or an address.</summary>
    public static string? Read(ReadOnlySpan<char> stated)
    {
        if (stated.Length > MaxLength + 1)
        {
            return null;
        }

        // What programs take for an address is no name, in whatever odd form (0x7f.1, 2130706433): no top-level domain begins with a digit.
        var name = Normalise(stated.ToString());
        return !IsValid(name) || char.IsAsciiDigit(name[name.LastIndexOf('.') + 1]) || IPAddress.TryParse(name, out _) ? null : name;
    }

    /// <summary>Whether a normalised name is one.</summary>
    public static bool IsValid(string name) => WhatIsWrong(name) is null;

    /// <summary>What is wrong with a normalised name, as the rest of a sentence, or <see langword="null"/>.</summary>
    public static string? WhatIsWrong(string name)
    {
        ArgumentNullException.ThrowIfNull(name);
        if (name.Length is 0 or > MaxLength)
        {
            return $"is {name.Length} characters long; a host name is 1 to {MaxLength}.";
        }

        if (name.Contains("://", StringComparison.Ordinal) || name.Contains('/'))
        {
            return "is an address of a page; give the host name alone, and paths in 'paths'.";
        }

        if (name.Contains(':'))
        {
            return "has a port or is an IPv6 address; give ports in 'ports'. IPv6 is not reachable.";
        }

        var labels = name.Split('.');
        foreach (var label in labels)
        {
            if (label.Length is 0 or > 63)
            {
                return "has a part between dots that is empty or longer than 63 characters.";
            }

            if (label.Contains('*'))
            {
                return "has a '*' elsewhere than as its whole first part; allowed are a name (pypi.org), all names below one (*.pypi.org) and any name (*).";
            }

            if (label[0] == '-' || label[^1] == '-' || !label.All(c => char.IsAsciiLetterLower(c) || char.IsAsciiDigit(c) || c is '-' or '_'))
            {
                return "has a part with other characters than letters, digits, '_' and inner '-'; write international names in their ASCII form (xn--…).";
            }
        }

        return labels[^1].All(char.IsAsciiDigit) ? "looks like an address; give addresses in 'cidr'." : null;
    }
}
