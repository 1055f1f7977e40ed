using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;
using Sandbox.Abstractions;
using Sandbox.Gateway.Http;

namespace Sandbox.Gateway.Preview;

/// <summary>Previews: HTTP and WebSockets to programs in a session, and tokens for those who have no API key.</summary>
internal static class PreviewEndpoints
{
    private static readonly TimeSpan DefaultLife = TimeSpan.FromHours(1);
    private static readonly TimeSpan LongestLife = TimeSpan.FromDays(7);

    public static void Map(IEndpointRouteBuilder api, GatewayOptions options)
    {
        api.MapPost("/sessions/{id}/ports/{port:int}/token", (string id, int port, HttpContext context, IGrainFactory grains, PreviewTokens tokens) => IssueAsync(id, port, context, grains, tokens, options))
            .TakesJson<TokenBody>().Produces<IssuedToken>().WithSummary("A token that lets its bearer reach this port, without an API key, until it expires");
        api.Map("/sessions/{id}/ports/{port:int}/{**path}", (string id, int port, HttpContext context, PortForwarder forwarder) => ForwardAsync(id, port, context, forwarder))
            .WithSummary("HTTP and WebSockets to a port that a program in the session listens on").ExcludeFromDescription();
    }

    private static async Task<IResult> IssueAsync(string id, int port, HttpContext context, IGrainFactory grains, PreviewTokens tokens, GatewayOptions options)
    {
        if (PreviewAccess.GrantOf(context) is not null)
        {
            throw new SandboxException(SandboxErrorCode.PermissionDenied, "A preview token makes no further tokens. Use an API key.");
        }

        var body = await ApiJson.ReadAsync<TokenBody>(context, options);
        if (port is < 1 or > ushort.MaxValue)
        {
            throw SandboxException.Invalid("port", $"{port} is outside 1 to {ushort.MaxValue}.");
        }

        var life = body.TtlSeconds ?? DefaultLife;
        if (life < TimeSpan.FromSeconds(1) || life > LongestLife)
        {
            throw SandboxException.Invalid("ttlSeconds", $"A token lives for 1 second to {LongestLife.TotalDays:0} days.");
        }

        // Looking is enough: it wakes nobody.
        var session = await grains.Session<ISessionGrain>(id).GetAsync();
        var expires = DateTimeOffset.FromUnixTimeSeconds((DateTimeOffset.UtcNow + life).ToUnixTimeSeconds());
        var token = tokens.Issue(new PreviewGrant(id, port, TenantContext.Current!, session.Generation, expires));
        return Results.Json(new IssuedToken(token, expires, $"/v1/sessions/{id}/ports/{port}/?{PreviewAccess.TokenName}={token}"), ApiJson.Options);
    }

    private static async Task<IResult> ForwardAsync(string id, int port, HttpContext context, PortForwarder forwarder)
    {
        if (PreviewAccess.GrantOf(context) is { } grant && (grant.SessionId != id || grant.Port != port))
        {
            throw new SandboxException(SandboxErrorCode.PermissionDenied, "The preview token is for another port.");
        }

        // As it is spelt in the request, whatever routing makes of it.
        var prefix = string.Join('/', context.Request.Path.Value!.Split('/').Take(6));
        await forwarder.ForwardAsync(context, id, port, prefix);
        return Results.Empty;
    }

    private sealed record TokenBody
    {
        public TimeSpan? TtlSeconds { get; init; }
    }

    private sealed record IssuedToken(string Token, DateTimeOffset ExpiresAt, string Path);
}
