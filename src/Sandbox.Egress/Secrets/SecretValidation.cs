using Sandbox.Abstractions;
using Sandbox.Egress.Policy;

namespace Sandbox.Egress.Secrets;

/// <summary>Tells what is wrong with a secret before it is kept.</summary>
public static class SecretValidation
{
    /// <summary>Most bytes of a value, as UTF-8.</summary>
    public const int MaxValueBytes = 16 * 1024;

    /// <summary>Most hosts.</summary>
    public const int MaxHosts = 32;

    /// <summary>Most headers.</summary>
    public const int MaxHeaders = 8;

    /// <summary>Longest name in characters.</summary>
    public const int MaxNameLength = 63;

    /// <summary>The headers a secret may stand in where it names none.</summary>
    public static IReadOnlyList<string> DefaultHeaders { get; } = ["authorization"];

    /// <summary>Whether a name is one: a small letter, then at most 62 small letters, digits and '-'.</summary>
    public static bool IsName(string? name) => name is { Length: >= 1 and <= MaxNameLength } && char.IsAsciiLetterLower(name[0]) && name.All(c => char.IsAsciiLetterLower(c) || char.IsAsciiDigit(c) || c == '-');

    /// <summary>Checks a secret whole. No message holds the value.</summary>
    /// <param name="name">Name.</param>
    /// <param name="value">Value.</param>
    /// <param name="hosts">Hosts, as rules write them.</param>
    /// <param name="headers">Headers; empty: <see cref="DefaultHeaders"/>.</param>
    /// <exception cref="SandboxException"><see cref="SandboxErrorCode.InvalidArgument"/>.</exception>
    public static void Validate(string name, string value, IReadOnlyList<string> hosts, IReadOnlyList<string> headers)
    {
        Require(IsName(name), "name", $"'{name}' is no name of a secret: a small letter, then at most 62 small letters, digits and '-'.");
        Require(!string.IsNullOrEmpty(value), "value", "The value is empty.");
        var bytes = System.Text.Encoding.UTF8.GetByteCount(value);
        Require(bytes <= MaxValueBytes, "value", $"The value is {bytes} bytes long; at most {MaxValueBytes} are allowed.");
        Require(!value.Any(char.IsControl), "value", "The value has a control character, such as a line break; a header cannot carry it.");
        Require(!value.Contains(Placeholders.Prefix, StringComparison.Ordinal), "value", $"The value contains '{Placeholders.Prefix}', which marks placeholders.");
        Require(hosts is { Count: >= 1 and <= MaxHosts }, "hosts", $"There are {hosts?.Count ?? 0} hosts; a secret is bound to 1 to {MaxHosts}.");
        for (var i = 0; i < hosts!.Count; i++)
        {
            string? error = "is null.";
            HostPattern? pattern = null;
            Require(hosts[i] is not null && HostPattern.TryParse(hosts[i], out pattern, out error), $"hosts[{i}]", $"Host '{hosts[i]}' {error}");
            Require(!pattern!.IsAny, $"hosts[{i}]", "A secret cannot be bound to every host; name the hosts it is for.");
            Require(!hosts[i].StartsWith("*.", StringComparison.Ordinal) || hosts[i].Trim('.').Count(c => c == '.') >= 2, $"hosts[{i}]", $"'{hosts[i]}' is a whole top-level domain, and anybody can have a host below it; name a domain of the secret's own service.");
        }

        Require(headers is null || headers.Count <= MaxHeaders, "headers", $"There are {headers?.Count} headers; at most {MaxHeaders} are allowed.");
        for (var i = 0; i < (headers?.Count ?? 0); i++)
        {
            var header = headers![i];
            Require(header is { Length: >= 1 and <= 64 } && header.All(c => char.IsAsciiLetterOrDigit(c) || c is '-' or '_'), $"headers[{i}]", $"'{header}' is no name of a header: 1 to 64 letters, digits, '-' and '_'.");
            Require(!Unfit.Contains(header!), $"headers[{i}]", $"'{header}' steers the connection itself and cannot carry a secret.");
        }
    }

    /// <summary>Checks a secret and makes it ready: hosts and headers in their one form, default headers where none are named.</summary>
    /// <exception cref="SandboxException"><see cref="SandboxErrorCode.InvalidArgument"/>.</exception>
    public static SecretBinding Bind(string name, string placeholder, string value, IReadOnlyList<string> hosts, IReadOnlyList<string>? headers = null)
    {
        Validate(name, value, hosts, headers ?? []);
        return new SecretBinding(name, placeholder, value, [.. hosts.Select(HostNames.Normalise)], headers is { Count: > 0 } ? [.. headers.Select(h => h.ToLowerInvariant())] : DefaultHeaders);
    }

    // The proxy makes or removes these by itself.
    private static readonly HashSet<string> Unfit = new(StringComparer.OrdinalIgnoreCase) { "host", "connection", "content-length", "transfer-encoding", "upgrade", "te", "trailer", "expect" };

    private static void Require(bool good, string field, string message)
    {
        if (!good)
        {
            throw SandboxException.Invalid(field, message);
        }
    }
}
