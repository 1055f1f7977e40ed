using System.Globalization;
using System.Security.Cryptography;
using System.Text;
using Microsoft.AspNetCore.Http;
using Sandbox.Abstractions;

namespace Sandbox.E2b.Data;

/// <summary>
/// Addresses of files that the SDK signs with the sandbox's token, to be used without it: <c>v1_</c> and the SHA-256 of <c>path:operation:user:token[:expiry]</c> in base64 without padding.
/// </summary>
internal static class SignedUrl
{
    /// <summary>Checks the signature; returns the tenant whose sandbox it is. (Not set here: what an async method puts into the context of a call is gone when it returns.)</summary>
    /// <exception cref="SandboxException"><see cref="SandboxErrorCode.Unauthenticated"/>: it does not fit, or has expired.</exception>
    public static async Task<string> TenantAsync(DataCall call, SandboxTokens tokens)
    {
        var query = call.Context.Request.Query;
        string? expiry = query["signature_expiration"];
        if (!string.IsNullOrEmpty(expiry) && (!long.TryParse(expiry, NumberStyles.None, CultureInfo.InvariantCulture, out var until) || until < DateTimeOffset.UtcNow.ToUnixTimeSeconds()))
        {
            throw new SandboxException(SandboxErrorCode.Unauthenticated, "The signed address has expired. Ask for a new one.");
        }

        // The tenant is not in the address: the session knows it.
        TenantContext.Set(TenantContext.System);
        var tenant = (await call.Session<ISessionGrain>().GetAsync()).Tenant;
        var operation = HttpMethods.IsGet(call.Context.Request.Method) || HttpMethods.IsHead(call.Context.Request.Method) ? "read" : "write";
        var parts = $"{query["path"]}:{operation}:{query["username"]}:{tokens.Envd(call.SessionId, tenant)}" + (string.IsNullOrEmpty(expiry) ? "" : ":" + expiry);
        var wanted = "v1_" + Convert.ToBase64String(SHA256.HashData(Encoding.UTF8.GetBytes(parts))).TrimEnd('=');
        if (!CryptographicOperations.FixedTimeEquals(Encoding.UTF8.GetBytes(wanted), Encoding.UTF8.GetBytes(query["signature"].ToString())))
        {
            throw new SandboxException(SandboxErrorCode.Unauthenticated, "The signature of the address does not fit its path, user and expiry.");
        }

        return tenant;
    }
}
