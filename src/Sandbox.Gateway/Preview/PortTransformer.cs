using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Primitives;
using Microsoft.Net.Http.Headers;
using Sandbox.Gateway.Http;
using Yarp.ReverseProxy.Forwarder;

namespace Sandbox.Gateway.Preview;

/// <summary>
/// Takes what is ours out of a request before the guest sees it, and out of the guest's answer what could harm who looks at it. The guest is hostile, and without a host name of its own its pages have
/// the origin of this API.
/// </summary>
/// <param name="target">Where the request goes.</param>
/// <param name="prefix">The part of the address that is ours and not forwarded; empty where the request came by a host name of its own.</param>
/// <param name="dedicatedHost">The request came by a host name that serves nothing but this port.</param>
internal sealed class PortTransformer(PortTarget target, string prefix, bool dedicatedHost) : HttpTransformer
{
    /// <summary>A page may run and show what it likes, in an origin of its own: it can neither read this API's answers nor its storage.</summary>
    private const string Sandboxed = "sandbox allow-downloads allow-forms allow-modals allow-popups allow-scripts";

    /// <summary>Keys and tokens of this API, and claims about the client that only we make.</summary>
    private static readonly string[] Ours =
    [
        "X-API-Key", PreviewAccess.TokenHeader, Wake.Header, Calls.IdempotencyHeader,
        "Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Prefix",
    ];

    /// <summary>What would reach beyond the answer: to the whole host, other ports, or other pages.</summary>
    private static readonly string[] Harmful = ["Strict-Transport-Security", "Alt-Svc", "Clear-Site-Data", "Service-Worker-Allowed", "Public-Key-Pins", "NEL", "Report-To", "Reporting-Endpoints"];

    public override async ValueTask TransformRequestAsync(HttpContext httpContext, HttpRequestMessage proxyRequest, string destinationPrefix, CancellationToken cancellationToken)
    {
        await base.TransformRequestAsync(httpContext, proxyRequest, destinationPrefix, cancellationToken);
        var request = httpContext.Request;
        var path = prefix.Length > 0 && request.Path.StartsWithSegments(prefix, StringComparison.Ordinal, out var rest) ? rest : request.Path;
        proxyRequest.RequestUri = RequestUtilities.MakeDestinationAddress(destinationPrefix, path.HasValue ? path : "/", Query(request));
        proxyRequest.Options.Set(PortTarget.Key, target);
        foreach (var name in Ours)
        {
            proxyRequest.Headers.Remove(name);
        }

        if (request.Headers.Authorization.ToString().StartsWith("Bearer sbx_", StringComparison.OrdinalIgnoreCase))
        {
            proxyRequest.Headers.Remove(HeaderNames.Authorization);
        }

        var cookies = request.Headers.Cookie.SelectMany(line => (line ?? "").Split(';', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries))
            .Where(pair => pair.Split('=')[0] != PreviewAccess.TokenName).ToList();
        proxyRequest.Headers.Remove(HeaderNames.Cookie);
        if (cookies.Count > 0)
        {
            proxyRequest.Headers.TryAddWithoutValidation(HeaderNames.Cookie, string.Join("; ", cookies));
        }

        // Development servers answer to the name of the machine they think they run on, and to no other.
        proxyRequest.Headers.Host = $"localhost:{target.Port}";
        proxyRequest.Headers.TryAddWithoutValidation("X-Forwarded-Host", request.Host.Value);
        proxyRequest.Headers.TryAddWithoutValidation("X-Forwarded-Proto", request.Scheme);
        if (prefix.Length > 0)
        {
            proxyRequest.Headers.TryAddWithoutValidation("X-Forwarded-Prefix", prefix);
        }
    }

    public override async ValueTask<bool> TransformResponseAsync(HttpContext httpContext, HttpResponseMessage? proxyResponse, CancellationToken cancellationToken)
    {
        var copied = await base.TransformResponseAsync(httpContext, proxyResponse, cancellationToken);
        var headers = httpContext.Response.Headers;
        foreach (var name in Harmful)
        {
            headers.Remove(name);
        }

        headers.SetCookie = new StringValues([.. headers.SetCookie.Select(Cookie).OfType<string>()]);
        if (!dedicatedHost)
        {
            // Several policies hold at once: the guest's own cannot weaken this one.
            headers.Append(HeaderNames.ContentSecurityPolicy, Sandboxed);
            headers.XContentTypeOptions = "nosniff";
            headers["Referrer-Policy"] = "no-referrer";
            if (headers.Location.ToString() is ['/', not '/', ..] or "/")
            {
                headers.Location = prefix + headers.Location;
            }
        }

        if (httpContext.Request.Query[PreviewAccess.TokenName].ToString() is { Length: > 0 } token && PreviewAccess.GrantOf(httpContext) is { } grant)
        {
            // So that what a page loads, and the next page, is let in, too.
            httpContext.Response.Cookies.Append(PreviewAccess.TokenName, token, new CookieOptions
            {
                Path = prefix + "/",
                HttpOnly = true,
                Secure = httpContext.Request.IsHttps,
                SameSite = Microsoft.AspNetCore.Http.SameSiteMode.Lax,
                Expires = grant.ExpiresAt,
            });
        }

        return copied;
    }

    /// <summary>The query without what is ours: the token everywhere, the choice to wake where the address is ours.</summary>
    private QueryString Query(HttpRequest request)
    {
        var text = request.QueryString.Value;
        if (string.IsNullOrEmpty(text))
        {
            return default;
        }

        var kept = text[1..].Split('&').Where(pair => pair.Split('=')[0] is var name && name != PreviewAccess.TokenName && (dedicatedHost || name != "wake")).ToList();
        return kept.Count > 0 ? new QueryString("?" + string.Join('&', kept)) : default;
    }

    /// <summary>A guest's cookie is for its own port: not for other hosts, and below our address not for the rest of the API.</summary>
    private string? Cookie(string? cookie)
    {
        var parts = (cookie ?? "").Split(';', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries);
        if (parts.Length == 0 || parts[0].Split('=')[0].Trim() == PreviewAccess.TokenName)
        {
            return null;
        }

        var kept = parts.Where((part, i) => i == 0 || !(Is(part, "Domain") || (!dedicatedHost && Is(part, "Path"))));
        return string.Join("; ", dedicatedHost ? kept : kept.Append($"Path={prefix}/"));

        static bool Is(string part, string name) => part.Split('=')[0].Trim().Equals(name, StringComparison.OrdinalIgnoreCase);
    }
}
