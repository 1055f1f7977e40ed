using System.Net;
using System.Net.Sockets;
using System.Security.Authentication;
using Microsoft.AspNetCore.Http;
using Sandbox.Abstractions;
using Yarp.ReverseProxy.Forwarder;

namespace Sandbox.Egress.Proxy.Http;

/// <summary>Sends requests on, and the answers back.</summary>
/// <param name="options">Bounds.</param>
/// <param name="forwarder">YARP's.</param>
internal sealed class RequestForwarder(ProxyOptions options, IHttpForwarder forwarder)
{
    // The version that the guest speaks, or a lower one where the other side has it so: gRPC needs HTTP/2 all the way.
    private readonly ForwarderRequestConfig _http2 = new() { ActivityTimeout = options.IdleLimit, Version = HttpVersion.Version20, VersionPolicy = HttpVersionPolicy.RequestVersionOrLower, AllowResponseBuffering = false };
    private readonly ForwarderRequestConfig _http1 = new() { ActivityTimeout = options.IdleLimit, Version = HttpVersion.Version11, VersionPolicy = HttpVersionPolicy.RequestVersionExact, AllowResponseBuffering = false };

    /// <summary>Sends it. Something to be answered instead where that failed before an answer began.</summary>
    public async Task<Refusal?> SendAsync(Exchange exchange, RequestForm form)
    {
        var http = exchange.Http;
        if (!form.IsUpgrade)
        {
            http.Request.Body = new CountedBody(http.Request.Body, exchange.CountUp);
        }

        var scheme = exchange.Connection.IsTls ? "https" : "http";
        var isHttp2 = HttpProtocol.IsHttp2(http.Request.Protocol);
        var error = await forwarder.SendAsync(
            http, $"{scheme}://{exchange.Guest.Destination}", exchange.Guest.Session.Upstream.Invoker, isHttp2 ? _http2 : _http1, new ExchangeTransformer(exchange, form));
        if (error == ForwarderError.None)
        {
            return null;
        }

        var cause = http.Features.Get<IForwarderErrorFeature>()?.Exception;
        var reason = Words(error, cause, form.Host, exchange.Guest.Destination);
        if (http.RequestAborted.IsCancellationRequested)
        {
            exchange.Reason = $"{exchange.Reason} The guest broke it off.";
            return null;
        }

        if (error == ForwarderError.RequestBodyClient || Chain(cause).Any(e => e is BadHttpRequestException))
        {
            // The other side has seen a request that was broken off, and nothing of what came instead of its body.
            return Refusal.Malformed($"The request's body is not well-formed: {Chain(cause).LastOrDefault()?.Message}");
        }

        exchange.Outcome = EgressOutcome.Failed;
        exchange.Reason = reason;
        if (http.Response.HasStarted)
        {
            // The guest must not take half an answer for a whole one.
            http.Abort();
            return null;
        }

        var refused = Chain(cause).Any(e => e is UnreachableAddressException);
        var answer = Refusal.Failed(error == ForwarderError.RequestTimedOut ? StatusCodes.Status504GatewayTimeout : StatusCodes.Status502BadGateway, reason);
        return refused ? answer with { Outcome = EgressOutcome.Denied, Advice = "No policy permits it." } : answer;
    }

    private static string Words(ForwarderError error, Exception? cause, string host, IPEndPoint destination)
    {
        var chain = Chain(cause).ToList();
        if (chain.OfType<AuthenticationException>().LastOrDefault() is { } tls)
        {
            return $"No TLS connection to {host} ({destination}) could be made that can be trusted: {tls.Message}";
        }

        var inner = chain.LastOrDefault(e => e is SocketException or TimeoutException or UnreachableAddressException) ?? chain.LastOrDefault();
        return error == ForwarderError.RequestTimedOut ? $"{host} ({destination}) was silent for too long." : $"{host} ({destination}) could not be reached, or its answer makes no sense: {inner?.Message ?? error.ToString()}";
    }

    private static IEnumerable<Exception> Chain(Exception? e)
    {
        for (; e is not null; e = e.InnerException)
        {
            yield return e;
        }
    }
}
