using System.Globalization;
using System.Security.Cryptography;
using System.Text;
using Microsoft.AspNetCore.WebUtilities;

namespace Sandbox.Gateway.Preview;

/// <summary>What a preview token allows: HTTP to one port of one session, until it expires.</summary>
/// <param name="SessionId">The session.</param>
/// <param name="Port">The port.</param>
/// <param name="Tenant">Whose session it is: calls are made for this tenant.</param>
/// <param name="Generation">The session's generation when it was issued. It is good for this and every later one, so across pauses and resumes.</param>
/// <param name="ExpiresAt">UTC, whole seconds.</param>
public sealed record PreviewGrant(string SessionId, int Port, string Tenant, long Generation, DateTimeOffset ExpiresAt);

/// <summary>
/// Makes and checks preview tokens: a grant in plain text and its HMAC-SHA256 under a key of the server. Nothing is stored, so a token cannot be revoked before it expires, but for ending the session or
/// changing the key. Safe for concurrent use.
/// </summary>
public sealed class PreviewTokens
{
    private const string Form = "p1";
    private const int MaxLength = 512;
    private readonly byte[] _key;
    private readonly TimeProvider _time;

    /// <param name="key">At least 32 bytes; the same on all gateways that shall accept each other's tokens.</param>
    /// <param name="time">Tells when a token has expired.</param>
    /// <exception cref="ArgumentException">The key is shorter.</exception>
    public PreviewTokens(ReadOnlySpan<byte> key, TimeProvider time)
    {
        ArgumentNullException.ThrowIfNull(time);
        _key = key.Length >= 32 ? key.ToArray() : throw new ArgumentException($"A key for preview tokens has at least 32 bytes, this one {key.Length}.", nameof(key));
        _time = time;
    }

    /// <summary>The token for a grant.</summary>
    public string Issue(PreviewGrant grant)
    {
        ArgumentNullException.ThrowIfNull(grant);
        var text = string.Create(CultureInfo.InvariantCulture, $"{grant.SessionId} {grant.Port} {grant.Tenant} {grant.Generation} {grant.ExpiresAt.ToUnixTimeSeconds()}");
        var signed = Form + "." + WebEncoders.Base64UrlEncode(Encoding.UTF8.GetBytes(text));
        return signed + "." + WebEncoders.Base64UrlEncode(Sign(signed));
    }

    /// <summary>What a token allows now, or <see langword="null"/> if it is none of ours or has expired.</summary>
    public PreviewGrant? Read(string token)
    {
        if (token is not { Length: > 0 and <= MaxLength } || token.Split('.') is not [Form, var payload, var mac])
        {
            return null;
        }

        try
        {
            // Before anything of it is looked at.
            if (!CryptographicOperations.FixedTimeEquals(Sign(Form + "." + payload), WebEncoders.Base64UrlDecode(mac)))
            {
                return null;
            }

            return Encoding.UTF8.GetString(WebEncoders.Base64UrlDecode(payload)).Split(' ') is [var session, var port, var tenant, var generation, var expires]
                && DateTimeOffset.FromUnixTimeSeconds(long.Parse(expires, CultureInfo.InvariantCulture)) is var until
                && until > _time.GetUtcNow()
                    ? new PreviewGrant(session, int.Parse(port, CultureInfo.InvariantCulture), tenant, long.Parse(generation, CultureInfo.InvariantCulture), until)
                    : null;
        }
        catch (FormatException)
        {
            return null;
        }
    }

    private byte[] Sign(string text) => HMACSHA256.HashData(_key, Encoding.UTF8.GetBytes("sandbox preview\0" + text));
}
