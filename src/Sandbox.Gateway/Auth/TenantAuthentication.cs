using System.Collections.Concurrent;
using System.Net;
using System.Security.Cryptography;
using System.Text;
using System.Text.RegularExpressions;
using Microsoft.AspNetCore.Http;
using Sandbox.Abstractions;
using Sandbox.Gateway.Artifacts;
using Sandbox.Gateway.Preview;

namespace Sandbox.Gateway.Auth;

/// <summary>
/// Finds out for whom a request is made: by API key, or, in single-user development mode, by being on this machine. In that mode the browser is the
/// adversary: a page from anywhere can send requests to loopback, so the Host must be a loopback name and a foreign Origin is refused.
/// </summary>
internal sealed partial class TenantAuthentication(IGrainFactory grains, GatewayOptions options, PreviewTokens tokens, TimeProvider time)
{
    private const int MaxCachedKeys = 10_000;
    private readonly ConcurrentDictionary<string, (string Tenant, DateTimeOffset Until)> _known = new(StringComparer.Ordinal);

    public async Task HandleAsync(HttpContext context, RequestDelegate next)
    {
        // What is open is listed; everything else is closed, however its path is spelt (routing does not look at case).
        // An artifact's signed address says itself for whom it is good.
        if (context.Request.Path.Value is "/healthz" or "/readyz" or "/openapi/v1.json" || context.Request.Path.Value?.StartsWith(ArtifactLinks.Prefix, StringComparison.Ordinal) == true)
        {
            await next(context);
            return;
        }

        // Whoever shows a key is who the key says. Otherwise the token is enough, also where a page of another site was followed here.
        if (!HasKey(context) && PreviewAccess.TryAdmit(context, tokens))
        {
            await next(context);
            return;
        }

        TenantContext.Set(options.Development ? Local(context) : await ByKeyAsync(context));
        await next(context);
    }

    private static bool HasKey(HttpContext context) =>
        context.Request.Headers.ContainsKey("X-API-Key") || context.Request.Headers.Authorization.ToString().StartsWith("Bearer sbx_", StringComparison.OrdinalIgnoreCase);

    private static string Local(HttpContext context)
    {
        var host = context.Request.Host.Host;
        if (!IsLoopback(host))
        {
            throw new SandboxException(SandboxErrorCode.PermissionDenied, $"In development mode the server answers to loopback names only, not to '{host}'.");
        }

        if (context.Request.Headers.Origin.ToString() is { Length: > 0 } origin && !(Uri.TryCreate(origin, UriKind.Absolute, out var uri) && IsLoopback(uri.Host)))
        {
            throw new SandboxException(SandboxErrorCode.PermissionDenied, $"In development mode requests from pages of '{origin}' are refused.");
        }

        // A page's plain GET carries no Origin; browsers say here what it is.
        if (context.Request.Headers["Sec-Fetch-Site"] == "cross-site")
        {
            throw new SandboxException(SandboxErrorCode.PermissionDenied, "In development mode requests from pages of other sites are refused.");
        }

        return TenantContext.Development;
    }

    private static bool IsLoopback(string host) => host == "localhost" || (IPAddress.TryParse(host.Trim('[', ']'), out var address) && IPAddress.IsLoopback(address));

    private async Task<string> ByKeyAsync(HttpContext context)
    {
        string? key = context.Request.Headers["X-API-Key"];
        if (string.IsNullOrEmpty(key) && context.Request.Headers.Authorization.ToString() is var header && header.StartsWith("Bearer ", StringComparison.OrdinalIgnoreCase))
        {
            key = header["Bearer ".Length..].Trim();
        }

        if (string.IsNullOrEmpty(key))
        {
            throw Refused("An API key is required, in the header X-API-Key or as Authorization: Bearer. Start the server with --bootstrap-key FILE to get the first one.");
        }

        key = E2bKeys.Read(key);
        var match = KeyForm().Match(key);
        if (!match.Success)
        {
            throw Refused("The API key has not the form sbx_<tenant>_<secret>, or that in hexadecimal after e2b_.");
        }

        var hash = Convert.ToHexString(SHA256.HashData(Encoding.UTF8.GetBytes(key)));
        var now = time.GetUtcNow();
        if (_known.TryGetValue(hash, out var known) && known.Until > now)
        {
            return known.Tenant;
        }

        var tenant = match.Groups[1].Value;
        TenantContext.Set(tenant);
        if (!await grains.GetGrain<ITenantGrain>(tenant).VerifyKeyAsync(key))
        {
            throw Refused("The API key is not valid.");
        }

        if (_known.Count >= MaxCachedKeys)
        {
            _known.Clear();
        }

        _known[hash] = (tenant, now + options.KeyCache);
        return tenant;
    }

    private static SandboxException Refused(string message) => new(SandboxErrorCode.Unauthenticated, message);

    [GeneratedRegex(@"\Asbx_([a-z][a-z0-9-]{0,39})_[A-Za-z0-9]{16,128}\z")]
    private static partial Regex KeyForm();
}
