using System.Collections.Concurrent;
using System.Net;
using System.Net.Sockets;
using System.Security.Cryptography.X509Certificates;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.Extensions.Logging;

namespace Sandbox.EndToEnd.Tests.Egress;

/// <summary>A web server outside: HTTP on 80 and, with a certificate, HTTPS on 443 of one address. Notes every request.</summary>
internal sealed class OutsideSite : IAsyncDisposable
{
    private readonly WebApplication _app;
    private readonly List<Socket> _sockets = [];

    private OutsideSite(OutsideNamespace outside, IPAddress address, X509Certificate2? certificate, Action<WebApplication> map, int[] morePorts)
    {
        var builder = WebApplication.CreateSlimBuilder();
        builder.Logging.ClearProviders();
        builder.WebHost.UseKestrelHttpsConfiguration().ConfigureKestrel(k =>
        {
            foreach (var port in (int[])[80, .. morePorts])
            {
                k.ListenHandle(HandleOf(outside.Listen(address, port)));
            }

            if (certificate is not null)
            {
                k.ListenHandle(HandleOf(outside.Listen(address, 443)), l => (l.Protocols, _) = (HttpProtocols.Http1AndHttp2, l.UseHttps(certificate)));
            }
        });
        _app = builder.Build();
        _app.Use((context, next) =>
        {
            Requests.Enqueue(new OutsideRequest(context.Request.Method, context.Request.Host.Value ?? "", context.Request.Path + context.Request.QueryString, context.Request.Headers.ToDictionary(h => h.Key, h => h.Value.ToString(), StringComparer.OrdinalIgnoreCase), context.Request.Protocol));
            return next(context);
        });
        map(_app);
    }

    public ConcurrentQueue<OutsideRequest> Requests { get; } = new();

    public static async Task<OutsideSite> StartAsync(OutsideNamespace outside, string address, X509Certificate2? certificate, Action<WebApplication> map, params int[] morePorts)
    {
        var site = new OutsideSite(outside, IPAddress.Parse(address), certificate, map, morePorts);
        await site._app.StartAsync();
        return site;
    }

    public async ValueTask DisposeAsync()
    {
        await _app.DisposeAsync();
        _sockets.ForEach(s => s.Dispose());
    }

    private ulong HandleOf(Socket socket)
    {
        _sockets.Add(socket);
        return (ulong)socket.Handle;
    }
}

/// <summary>A request that arrived outside.</summary>
internal sealed record OutsideRequest(string Method, string Host, string Path, IReadOnlyDictionary<string, string> Headers, string Protocol);
