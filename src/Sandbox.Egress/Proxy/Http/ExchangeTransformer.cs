using System.Net;
using Microsoft.AspNetCore.Http;
using Microsoft.Net.Http.Headers;
using Yarp.ReverseProxy.Forwarder;

namespace Sandbox.Egress.Proxy.Http;

/// <summary>Makes the request that is sent on out of the one that came, and the answer that the guest gets out of the one that came back.</summary>
/// <param name="exchange">Both.</param>
/// <param name="form">The request, as it was judged.</param>
internal sealed class ExchangeTransformer(Exchange exchange, RequestForm form) : HttpTransformer
{
    /// <summary>Names that reach the other side as the guest sent them are those it was judged with: the target is not put together anew.</summary>
    private static readonly UriCreationOptions AsItIs = new() { DangerousDisablePathAndQueryCanonicalization = true };

    /// <summary>What frames a request, and says who it is for, is not the guest's to take away.</summary>
    private static readonly HashSet<string> Framing = new(StringComparer.OrdinalIgnoreCase) { HeaderNames.ContentLength, HeaderNames.TransferEncoding, HeaderNames.Upgrade, HeaderNames.Host, HeaderNames.TE };

    public override async ValueTask TransformRequestAsync(HttpContext httpContext, HttpRequestMessage proxyRequest, string destinationPrefix, CancellationToken cancellationToken)
    {
        var headers = httpContext.Request.Headers;
        foreach (var name in headers.Connection.SelectMany(v => (v ?? "").Split(',', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries)).ToList())
        {
            // What is named there is for us, and ends here.
            if (!Framing.Contains(name))
            {
                headers.Remove(name);
            }
        }

        if (exchange is { HasSecrets: true, PinnedName: { } host })
        {
            PutInSecrets(headers, host);
        }

        await base.TransformRequestAsync(httpContext, proxyRequest, destinationPrefix, cancellationToken);
        proxyRequest.RequestUri = new Uri(destinationPrefix + form.Target, AsItIs);

        // The connection is one to the address that the guest chose, for this name and no other; what the name is resolved to elsewhere does not matter.
        var port = exchange.Guest.Destination.Port;
        proxyRequest.Headers.Host = port == (exchange.Connection.IsTls ? 443 : 80) ? form.Host : $"{form.Host}:{port}";
    }

    public override async ValueTask<bool> TransformResponseAsync(HttpContext httpContext, HttpResponseMessage? proxyResponse, CancellationToken cancellationToken)
    {
        var isCopied = await base.TransformResponseAsync(httpContext, proxyResponse, cancellationToken);
        var headers = httpContext.Response.Headers;

        // Would send the guest where it cannot go: to HTTP/3, or to another port.
        headers.Remove(HeaderNames.AltSvc);
        foreach (var (name, values) in headers.ToArray())
        {
            var redacted = values.Select(v => v is null ? v : exchange.Context.Secrets.Redact(v)).ToArray();
            if (!redacted.SequenceEqual(values.ToArray(), StringComparer.Ordinal))
            {
                headers[name] = redacted;
            }
        }

        if (proxyResponse is null)
        {
            return isCopied;
        }

        var isUpgraded = form.IsUpgrade && (proxyResponse.StatusCode == HttpStatusCode.SwitchingProtocols || proxyResponse.RequestMessage?.Method == HttpMethod.Connect);
        var redactor = exchange.NewRedactor();

        // A body that has not begun may not begin for long (events): the guest gets the headers meanwhile. One that is empty is over at once, and goes in one piece with them.
        Task Flush() => httpContext.Response.Body.FlushAsync(cancellationToken);
        if (isUpgraded)
        {
            proxyResponse.Content = new ResponseBody(proxyResponse.Content, s => new UpgradedStream(s, redactor, exchange));
            return isCopied;
        }

        if (redactor is null)
        {
            proxyResponse.Content = new ResponseBody(proxyResponse.Content, s => new CountedBody(s, exchange.CountDown, Flush));
            return isCopied;
        }

        var encoding = headers.ContentEncoding.ToString();
        var isPlain = Compression.IsNone(encoding);
        if (!isPlain && Compression.Open(encoding, Stream.Null) is null)
        {
            throw new HttpRequestException($"The answer is compressed as {encoding}, though it was asked for plain, and echoes of secrets could not be seen in it.");
        }

        headers.Remove(HeaderNames.ContentEncoding);
        if (!HttpMethods.IsHead(form.Method))
        {
            headers.ContentLength = null;
        }

        proxyResponse.Content = new ResponseBody(
            proxyResponse.Content,
            s => new CountedBody(new RedactedBody(isPlain ? s : Compression.Open(encoding, s)!, redactor), exchange.CountDown, Flush));
        return isCopied;
    }

    public override async ValueTask TransformResponseTrailersAsync(HttpContext httpContext, HttpResponseMessage proxyResponse, CancellationToken cancellationToken)
    {
        foreach (var trailer in proxyResponse.TrailingHeaders.ToArray())
        {
            var redacted = trailer.Value.Select(exchange.Context.Secrets.Redact).ToArray();
            proxyResponse.TrailingHeaders.Remove(trailer.Key);
            proxyResponse.TrailingHeaders.TryAddWithoutValidation(trailer.Key, redacted);
        }

        await base.TransformResponseTrailersAsync(httpContext, proxyResponse, cancellationToken);
    }

    private void PutInSecrets(IHeaderDictionary headers, string host)
    {
        foreach (var (name, values) in headers.ToList())
        {
            var swapped = values.Select(v => exchange.Context.Secrets.Header(host, name, v ?? "", exchange.Used)).ToArray();
            if (!swapped.SequenceEqual(values.Select(v => v ?? ""), StringComparer.Ordinal))
            {
                headers[name] = swapped;
            }
        }

        // So that echoes can be seen.
        headers.AcceptEncoding = "identity";
        headers.Remove(HeaderNames.SecWebSocketExtensions);
    }
}
