using System.Net.Security;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Features;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Options;
using Sandbox.Egress.Proxy.Connections;
using Yarp.ReverseProxy.Forwarder;

namespace Sandbox.Egress.Proxy.Http;

/// <summary>One Kestrel for what is looked into of all sessions of a host. It listens on nothing: connections are handed to it.</summary>
internal sealed class HttpInterceptor : IHttpApplication<HttpContext>, IAsyncDisposable
{
    /// <summary>Between requests there is nothing that a guest could be waiting for; programs keep connections for a minute or so.</summary>
    private static readonly TimeSpan MaxKeepAlive = TimeSpan.FromMinutes(2);

    private readonly InterceptTransport _transport = new();
    private readonly BadRequestLog _badRequests = new();
    private readonly ServiceProvider _services;
    private readonly KestrelServer _server;
    private readonly RequestHandler _handler;

    private HttpInterceptor(ProxyHost host)
    {
        // Without loggers: YARP writes the targets of guests' requests. What is to be known of them is in the sessions' own logs.
        _services = new ServiceCollection().AddLogging().AddHttpForwarder().BuildServiceProvider();

        // Lines end with CR LF and with nothing else. There is no option for it; other servers of the process that start later become as strict.
        AppContext.SetSwitch("Microsoft.AspNetCore.Server.Kestrel.DisableHttp1LineFeedTerminators", true);
        var options = new KestrelServerOptions { AddServerHeader = false, AllowAlternateSchemes = false, ApplicationServices = _services };
        SetLimits(options.Limits, host.Options);
        options.Listen(_transport.EndPoint, listen => listen.Protocols = HttpProtocols.Http1AndHttp2);
        _server = new KestrelServer(Options.Create(options), _transport, _badRequests);
        _handler = new RequestHandler(host, _services.GetRequiredService<IHttpForwarder>());
    }

    /// <summary>Starts it.</summary>
    public static async Task<HttpInterceptor> StartAsync(ProxyHost host)
    {
        var interceptor = new HttpInterceptor(host);
        await interceptor._server.StartAsync(interceptor, CancellationToken.None);
        return interceptor;
    }

    public async Task ServeAsync(GuestConnection connection, Stream stream, SslApplicationProtocol protocol, bool isTls)
    {
        var served = new InterceptedConnection(connection, stream, protocol, isTls);
        _badRequests.Add(served);
        if (_transport.TryAdd(served))
        {
            await served.Over;
        }

        _badRequests.Remove(served);

        await Lingering.CloseAsync(connection.Socket, stream, connection.Ended);
        await served.FinishAsync();
    }

    public HttpContext CreateContext(IFeatureCollection contextFeatures) => new DefaultHttpContext(contextFeatures);

    public Task ProcessRequestAsync(HttpContext context) => _handler.HandleAsync(context);

    public void DisposeContext(HttpContext context, Exception? exception)
    {
        // Nothing is held for a request.
    }

    public async ValueTask DisposeAsync()
    {
        // What is still open is ended by its sessions.
        using var now = new CancellationTokenSource(TimeSpan.FromSeconds(2));
        await _server.StopAsync(now.Token);
        _server.Dispose();
        await _services.DisposeAsync();
    }

    private static void SetLimits(KestrelServerLimits limits, ProxyOptions options)
    {
        limits.RequestHeadersTimeout = options.HeadTimeout;
        limits.KeepAliveTimeout = options.IdleLimit < MaxKeepAlive ? options.IdleLimit : MaxKeepAlive;
        limits.MaxRequestHeaderCount = options.HeadCount;
        limits.MaxRequestHeadersTotalSize = options.HeadBytes;
        limits.MaxRequestLineSize = Math.Min(16 * 1024, options.HeadBytes);
        limits.Http2.MaxRequestHeaderFieldSize = Math.Min(16 * 1024, options.HeadBytes);
        limits.Http2.MaxStreamsPerConnection = 100;

        // Bodies stream: any length, at any pace. What does not move at all is ended by the idle limit.
        limits.MaxRequestBodySize = null;
        limits.MinRequestBodyDataRate = null;
        limits.MinResponseDataRate = null;
    }
}
