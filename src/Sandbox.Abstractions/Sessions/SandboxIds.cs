using System.Buffers;
using System.Security.Cryptography;

namespace Sandbox.Abstractions;

/// <summary>Makes and checks ids. 26 characters of Crockford's base32 carry 130 random bits, so ids need no coordination and cannot be guessed.</summary>
public static class SandboxIds
{
    private const string Alphabet = "0123456789abcdefghjkmnpqrstvwxyz";
    private const int Length = 26;
    private static readonly SearchValues<char> Letters = SearchValues.Create(Alphabet);

    /// <summary>A new session id.</summary>
    public static string NewSession() => "ses_" + Random();

    /// <summary>A new execution id.</summary>
    public static string NewExecution() => "exe_" + Random();

    /// <summary>A new context id.</summary>
    public static string NewContext() => "ctx_" + Random();

    /// <summary>Whether a text has the form of a session id. Nothing else may become part of a path or a key.</summary>
    public static bool IsSession(string? id) => Is(id, "ses_");

    /// <summary>Whether a text has the form of an execution id.</summary>
    public static bool IsExecution(string? id) => Is(id, "exe_");

    /// <summary>Whether a text has the form of a context id.</summary>
    public static bool IsContext(string? id) => Is(id, "ctx_");

    /// <summary>Which index shard a session belongs to.</summary>
    public static int ShardOf(string sessionId)
    {
        ArgumentNullException.ThrowIfNull(sessionId);
        var hash = 0u;
        foreach (var c in sessionId)
        {
            hash = (hash * 31) + c;
        }

        return (int)(hash % ISessionIndexGrain.Shards);
    }

    private static string Random() => RandomNumberGenerator.GetString(Alphabet, Length);

    private static bool Is(string? id, string prefix) =>
        id is not null
        && id.Length == prefix.Length + Length
        && id.StartsWith(prefix, StringComparison.Ordinal)
        && id.AsSpan(prefix.Length).IndexOfAnyExcept(Letters) < 0;
}
