using System.Net;
using System.Net.Security;
using System.Net.Sockets;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using Sandbox.Egress.Proxy.Tls;

namespace Sandbox.Egress.Tests.Proxy;

/// <summary>Servers of "the internet", on loopback.</summary>
internal static class TestServers
{
    private static readonly ECDsa Key = ECDsa.Create(ECCurve.NamedCurves.nistP256);

    /// <summary>The root that the proxy trusts besides the system's.</summary>
    public static TenantAuthority Root { get; } = TenantAuthority.Create("test root");

    /// <summary>A certificate of the test root.</summary>
    public static X509Certificate2 Certificate(string name) => Root.Issue(name, Key);

    /// <summary>Kestrel.</summary>
    public static async Task<TestWeb> WebAsync(RequestDelegate handler, X509Certificate2? certificate = null, HttpProtocols protocols = HttpProtocols.Http1AndHttp2)
    {
        var builder = WebApplication.CreateSlimBuilder();
        builder.Logging.ClearProviders();
        builder.WebHost.ConfigureKestrel(k =>
        {
            k.Limits.MaxRequestBodySize = null;
            k.Listen(IPAddress.Loopback, 0, l =>
            {
                l.Protocols = protocols;
                if (certificate is not null)
                {
                    l.UseHttps(certificate);
                }
            });
        });
        if (certificate is not null)
        {
            builder.WebHost.UseKestrelHttpsConfiguration();
        }

        var app = builder.Build();
        app.UseWebSockets();
        app.Run(handler);
        await app.StartAsync();
        var address = app.Services.GetRequiredService<IServer>().Features.Get<IServerAddressesFeature>()!.Addresses.First();
        return new TestWeb(app, new IPEndPoint(IPAddress.Loopback, new Uri(address).Port));
    }

    /// <summary>A server that does as it likes with each connection.</summary>
    public static TestTcp Tcp(Func<Socket, Task> serve) => new(serve);

    /// <summary>A TLS server that echoes.</summary>
    public static TestTcp TlsEcho(X509Certificate2 certificate) => new(async socket =>
    {
        await using var stream = new SslStream(new NetworkStream(socket, ownsSocket: true));
        await stream.AuthenticateAsServerAsync(certificate);
        await stream.CopyToAsync(stream);
    });
}

internal sealed class TestWeb(WebApplication app, IPEndPoint endPoint) : IAsyncDisposable
{
    public IPEndPoint EndPoint => endPoint;

    public async ValueTask DisposeAsync()
    {
        using var now = new CancellationTokenSource(TimeSpan.FromMilliseconds(200));
        await app.StopAsync(now.Token);
        await app.DisposeAsync();
    }
}

internal sealed class TestTcp : IDisposable
{
    private readonly Socket _listener = new(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);

    public TestTcp(Func<Socket, Task> serve)
    {
        _listener.Bind(new IPEndPoint(IPAddress.Loopback, 0));
        _listener.Listen();
        EndPoint = (IPEndPoint)_listener.LocalEndPoint!;
        _ = Task.Run(async () =>
        {
            while (true)
            {
                var socket = await _listener.AcceptAsync();
                Interlocked.Increment(ref _accepted);
                _ = Task.Run(async () =>
                {
                    try
                    {
                        await serve(socket);
                    }
                    finally
                    {
                        socket.Dispose();
                    }
                });
            }
        });
    }

    private int _accepted;

    public IPEndPoint EndPoint { get; }

    public int Accepted => Volatile.Read(ref _accepted);

    public void Dispose() => _listener.Dispose();
}
