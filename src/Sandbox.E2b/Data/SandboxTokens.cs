using System.Buffers.Text;
using System.Security.Cryptography;
using System.Text;

namespace Sandbox.E2b.Data;

/// <summary>
/// The tokens that a created sandbox is answered with: <c>tenant.mac</c>. They follow from the session and the tenant, so that every gateway can make and check them, and none is stored.
/// They are good for the session's life: the SDKs keep them over a pause and a resume.
/// </summary>
internal sealed class SandboxTokens(byte[] key)
{
    /// <summary>For files and processes (port 49983).</summary>
    public string Envd(string sessionId, string tenant) => Make("envd", sessionId, tenant);

    /// <summary>For code and the sandbox's other ports.</summary>
    public string Traffic(string sessionId, string tenant) => Make("traffic", sessionId, tenant);

    /// <summary>The tenant that an envd token was made for, if it was made for this session.</summary>
    public string? TenantOfEnvd(string sessionId, string? token) => Check("envd", sessionId, token);

    /// <summary>The tenant that a traffic token was made for, if it was made for this session.</summary>
    public string? TenantOfTraffic(string sessionId, string? token) => Check("traffic", sessionId, token);

    private string? Check(string kind, string sessionId, string? token)
    {
        if (token is not { Length: > 0 and < 200 } || token.IndexOf('.', StringComparison.Ordinal) is not (> 0 and var dot))
        {
            return null;
        }

        var tenant = token[..dot];
        return CryptographicOperations.FixedTimeEquals(Encoding.UTF8.GetBytes(Make(kind, sessionId, tenant)), Encoding.UTF8.GetBytes(token)) ? tenant : null;
    }

    private string Make(string kind, string sessionId, string tenant) =>
        $"{tenant}.{Base64Url.EncodeToString(HMACSHA256.HashData(key, Encoding.UTF8.GetBytes($"e2b {kind}\n{sessionId}\n{tenant}")))}";
}
