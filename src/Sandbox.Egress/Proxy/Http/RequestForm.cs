using System.Net;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Features;
using Sandbox.Egress.Policy;

namespace Sandbox.Egress.Proxy.Http;

/// <summary>A request as it is judged and sent on. What is not of this form is refused, whoever it goes to: where two programs could read a request in two ways, only one of them would have been asked.</summary>
/// <param name="Host">Host that it is for: a name in lower case, or an address.</param>
/// <param name="Method">Method, as rules name it: a WebSocket is a GET in every version of HTTP.</param>
/// <param name="Target">Path and query as they came.</param>
/// <param name="IsUpgrade">It is to become a WebSocket.</param>
internal sealed record RequestForm(string Host, string Method, string Target, bool IsUpgrade)
{
    private const string WebSocket = "websocket";

    /// <summary>The target without its query.</summary>
    public string Path { get; } = Target.IndexOf('?', StringComparison.Ordinal) is >= 0 and var at ? Target[..at] : Target;

    /// <summary>Reads the form of a request that Kestrel has parsed; <see langword="null"/>, and why it is refused.</summary>
    public static RequestForm? Read(HttpContext http, IPEndPoint destination, out Refusal? refusal)
    {
        var request = http.Request;
        var extended = http.Features.Get<IHttpExtendedConnectFeature>() is { IsExtendedConnect: true } connect ? connect.Protocol ?? "" : null;
        var isUpgrade = extended is not null || request.Headers.Upgrade.Count > 0;
        refusal = FramingFault(request) ?? HeaderFault(request.Headers);
        if (refusal is not null)
        {
            return null;
        }

        if (HttpMethods.IsConnect(request.Method) && extended is null)
        {
            refusal = Refusal.Malformed("CONNECT: this is no proxy to be asked for tunnels; connect to the host itself.");
            return null;
        }

        if (isUpgrade && !string.Equals(extended ?? request.Headers.Upgrade.ToString(), WebSocket, StringComparison.OrdinalIgnoreCase))
        {
            refusal = Refusal.Malformed("The only protocol that a connection can be upgraded to is WebSocket.");
            return null;
        }

        if (TargetOf(http, out var target) is { } fault)
        {
            refusal = fault;
            return null;
        }

        if (HostOf(request, destination, out var host) is { } wrong)
        {
            refusal = wrong;
            return null;
        }

        return new RequestForm(host, isUpgrade ? HttpMethods.Get : request.Method, target, isUpgrade);
    }

    private static Refusal? FramingFault(HttpRequest request)
    {
        var coding = request.Headers.TransferEncoding;
        if (coding.Count == 0)
        {
            return null;
        }

        // Kestrel lets chunks win over a length, and keeps the length under this name.
        if (request.Headers.ContainsKey("X-Content-Length") || request.Headers.ContentLength is not null)
        {
            return Refusal.Malformed("The request states both a Content-Length and a Transfer-Encoding.");
        }

        return !HttpProtocol.IsHttp11(request.Protocol) || !string.Equals(coding.ToString(), "chunked", StringComparison.OrdinalIgnoreCase)
            ? Refusal.Malformed("The only Transfer-Encoding is chunked, in HTTP/1.1.")
            : null;
    }

    private static Refusal? HeaderFault(IHeaderDictionary headers)
    {
        foreach (var (name, values) in headers)
        {
            foreach (var value in values)
            {
                if (value is not null && value.AsSpan().ContainsAnyInRange('\0', '\u001f') && value.Any(c => c < ' ' && c != '\t'))
                {
                    return Refusal.Malformed($"The header {name} holds control characters.");
                }
            }
        }

        return null;
    }

    private static Refusal? TargetOf(HttpContext http, out string target)
    {
        target = http.Features.GetRequiredFeature<IHttpRequestFeature>().RawTarget;
        if (!target.StartsWith('/'))
        {
            // Absolute form; Kestrel has compared its authority with Host.
            var scheme = target.IndexOf("://", StringComparison.Ordinal);
            if (scheme < 0 || !string.Equals(target[..scheme], http.Request.Scheme, StringComparison.OrdinalIgnoreCase))
            {
                return Refusal.Malformed("The request's target is neither a path nor an address of this scheme.");
            }

            var path = target.AsSpan(scheme + 3).IndexOfAny('/', '?');
            target = path < 0 ? "/" : target[(scheme + 3 + path)..];
            if (target[0] == '?')
            {
                target = "/" + target;
            }
        }

        return target.AsSpan().ContainsAnyExceptInRange('!', '~') || target.AsSpan().ContainsAny('#', '\\')
            ? Refusal.Malformed("The request's target holds characters that no address may hold; encode them with %.")
            : null;
    }

    private static Refusal? HostOf(HttpRequest request, IPEndPoint destination, out string host)
    {
        host = "";
        if (request.Headers.Host.Count != 1 || !request.Host.HasValue)
        {
            return Refusal.Malformed("The request names no Host, or more than one.");
        }

        var stated = request.Host.Value;
        var colon = stated.LastIndexOf(':');
        var name = colon < 0 ? stated : stated[..colon];
        if (colon >= 0 && (!int.TryParse(stated.AsSpan(colon + 1), System.Globalization.NumberStyles.None, null, out var port) || port != destination.Port))
        {
            return Refusal.Misdirected($"The request is for another port than {destination.Port}, which the connection was made to.");
        }

        // An address in its usual form only: 010.1 and 2130706433 are addresses to some.
        host = IPAddress.TryParse(name, out var address) && address.ToString() == name ? name : HostNames.Read(name) ?? "";
        return host.Length == 0 ? Refusal.Malformed("The request's Host is not the name of a host.") : null;
    }
}
