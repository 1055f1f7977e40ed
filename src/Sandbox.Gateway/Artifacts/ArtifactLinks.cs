using System.Buffers.Binary;
using System.Buffers.Text;
using System.Security.Cryptography;
using System.Text;
using Sandbox.Abstractions;

namespace Sandbox.Gateway.Artifacts;

/// <summary>
/// Addresses of artifacts that are good without a key, for an hour: for an <c>img</c> in a page, or to hand on. What an address stands for is in it, signed: tenant,
/// session, artifact and expiry. Whoever has it can fetch that one file.
/// </summary>
/// <param name="key">What is signed with.</param>
/// <param name="time">The time.</param>
internal sealed class ArtifactLinks(byte[] key, TimeProvider time)
{
    public const string Prefix = "/v1/artifacts/";
    public static readonly TimeSpan Life = TimeSpan.FromHours(1);

    private const int IdLength = 30;
    private const int MacBytes = 32;
    private const int FixedBytes = 8 + (2 * IdLength);

    /// <summary>The key also signs other things; what is signed here begins with this and nothing else does.</summary>
    private static readonly byte[] Purpose = "sandbox artifact link\0"u8.ToArray();

    /// <summary>A path below this server, good for <see cref="Life"/>.</summary>
    public string PathTo(string tenant, string sessionId, string artifactId)
    {
        var payload = new byte[FixedBytes + Encoding.UTF8.GetByteCount(tenant)];
        BinaryPrimitives.WriteInt64BigEndian(payload, (time.GetUtcNow() + Life).ToUnixTimeSeconds());
        Encoding.ASCII.GetBytes(sessionId, payload.AsSpan(8, IdLength));
        Encoding.ASCII.GetBytes(artifactId, payload.AsSpan(8 + IdLength, IdLength));
        Encoding.UTF8.GetBytes(tenant, payload.AsSpan(FixedBytes));
        return Prefix + Base64Url.EncodeToString([.. payload, .. Sign(payload)]);
    }

    /// <summary>What a token stands for.</summary>
    /// <exception cref="SandboxException"><see cref="SandboxErrorCode.PermissionDenied"/>: it is not one of ours, or has expired.</exception>
    public (string Tenant, string SessionId, string ArtifactId) Open(string token)
    {
        // Measured before it is decoded: a tenant's name has at most 40 characters.
        if (token.Length > 512 || !Base64Url.IsValid(token))
        {
            throw Refused();
        }

        var bytes = Base64Url.DecodeFromChars(token);
        if (bytes.Length <= FixedBytes + MacBytes)
        {
            throw Refused();
        }

        var payload = bytes.AsSpan(0, bytes.Length - MacBytes);
        if (!CryptographicOperations.FixedTimeEquals(Sign(payload), bytes.AsSpan(payload.Length)) || BinaryPrimitives.ReadInt64BigEndian(payload) < time.GetUtcNow().ToUnixTimeSeconds())
        {
            throw Refused();
        }

        return (Encoding.UTF8.GetString(payload[FixedBytes..]), Encoding.ASCII.GetString(payload.Slice(8, IdLength)), Encoding.ASCII.GetString(payload.Slice(8 + IdLength, IdLength)));
    }

    private static SandboxException Refused() => new(SandboxErrorCode.PermissionDenied, "This address is not valid, or not any more: ask for the execution's output again to get a new one.");

    private byte[] Sign(ReadOnlySpan<byte> payload)
    {
        byte[] signed = [.. Purpose, .. payload];
        return HMACSHA256.HashData(key, signed);
    }
}

/// <summary>The addresses of one session's artifacts, for one caller.</summary>
/// <param name="links">Makes them.</param>
/// <param name="tenant">The caller.</param>
/// <param name="sessionId">The session.</param>
internal sealed class SessionLinks(ArtifactLinks links, string tenant, string sessionId)
{
    public string PathTo(string artifactId) => links.PathTo(tenant, sessionId, artifactId);

    /// <summary>For the caller of this request.</summary>
    public static SessionLinks Of(GatewayOptions options, string sessionId) =>
        new(new ArtifactLinks(options.TokenKey, TimeProvider.System), TenantContext.Current ?? throw new InvalidOperationException("A link is made without a tenant."), sessionId);
}
