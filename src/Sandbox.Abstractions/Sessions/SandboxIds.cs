using System.Buffers;
using System.Security.Cryptography;
using System.Text;

namespace Sandbox.Abstractions;

/// <summary>Makes and checks ids. 26 characters of Crockford's base32 carry 130 random bits, so ids need no coordination and cannot be guessed.</summary>
public static class SandboxIds
{
    private const string Alphabet = "0123456789abcdefghjkmnpqrstvwxyz";
    private const int Length = 26;
    private static readonly SearchValues<char> Letters = SearchValues.Create(Alphabet);

    /// <summary>A new session id.</summary>
    public static string NewSession() => "ses_" + Random();

    /// <summary>
    /// The session id that a tenant's idempotency key stands for: a repeated create call reaches the same grain, which then recognises it. 130 bits
    /// of a SHA-256 over both, so one tenant can neither guess nor take another's.
    /// </summary>
    public static string SessionFor(string tenant, string idempotencyKey)
    {
        var hash = SHA256.HashData(Encoding.UTF8.GetBytes($"{tenant}\n{idempotencyKey}"));
        return "ses_" + string.Create(Length, hash, static (text, bytes) =>
        {
            // One byte for each character; the upper three bits are left unused.
            for (var i = 0; i < text.Length; i++)
            {
                text[i] = Alphabet[bytes[i] & 31];
            }
        });
    }

    /// <summary>A new execution id.</summary>
    public static string NewExecution() => "exe_" + Random();

    /// <summary>A new context id.</summary>
    public static string NewContext() => "ctx_" + Random();

    /// <summary>A new checkpoint id.</summary>
    public static string NewCheckpoint() => "chk_" + Random();

    /// <summary>A new id of a connection to a port.</summary>
    public static string NewConnection() => "con_" + Random();

    /// <summary>Whether a text has the form of an id of a connection to a port.</summary>
    public static bool IsConnection(string? id) => Is(id, "con_");

    /// <summary>A new artifact id.</summary>
    public static string NewArtifact() => "art_" + Random();

    /// <summary>Whether a text has the form of an artifact id.</summary>
    public static bool IsArtifact(string? id) => Is(id, "art_");

    /// <summary>Whether a text has the form of a checkpoint id.</summary>
    public static bool IsCheckpoint(string? id) => Is(id, "chk_");

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
