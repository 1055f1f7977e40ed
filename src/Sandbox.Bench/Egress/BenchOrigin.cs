using System.Net;
using System.Net.Sockets;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.Extensions.Logging;
using Sandbox.Egress.Proxy;

namespace Sandbox.Bench.Egress;

/// <summary>
/// The other side, the same for all ways there: HTTPS that answers a word, or so many bytes. It listens at a socket in a machine's network, where nothing is between it and the guest, and at a loopback port, where the proxy
/// dials it whatever address the guest had asked for.
/// </summary>
internal sealed class BenchOrigin : IUpstreamDialer, IAsyncDisposable
{
    public const string Name = "bench.test";
    private static readonly byte[] Piece = new byte[64 * 1024];
    private readonly WebApplication _app;
    private readonly Socket _loopback;

    private BenchOrigin(Socket direct)
    {
        _loopback = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        _loopback.Bind(new IPEndPoint(IPAddress.Loopback, 0));
        _loopback.Listen(64);
        Certificate = MakeCertificate();
        var builder = WebApplication.CreateSlimBuilder();
        builder.Logging.ClearProviders();
        builder.WebHost.UseKestrelHttpsConfiguration().ConfigureKestrel(k =>
        {
            foreach (var socket in (Socket[])[direct, _loopback])
            {
                k.ListenHandle((ulong)socket.Handle, l =>
                {
                    l.Protocols = HttpProtocols.Http1;
                    l.UseHttps(Certificate);
                });
            }
        });
        _app = builder.Build();
        _app.MapGet("/small", () => "ok");
        _app.MapGet("/bulk", async (HttpContext context, long n) =>
        {
            context.Response.ContentLength = n;
            for (var left = n; left > 0; left -= Piece.Length)
            {
                await context.Response.Body.WriteAsync(Piece.AsMemory(0, (int)Math.Min(left, Piece.Length)), context.RequestAborted);
            }
        });
    }

    public X509Certificate2 Certificate { get; }

    public static async Task<BenchOrigin> StartAsync(Socket direct, CancellationToken cancellationToken)
    {
        var origin = new BenchOrigin(direct);
        await origin._app.StartAsync(cancellationToken);
        return origin;
    }

    /// <inheritdoc/>
    public async ValueTask<Socket> ConnectAsync(IPEndPoint destination, CancellationToken cancellationToken)
    {
        var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };
        await socket.ConnectAsync(_loopback.LocalEndPoint!, cancellationToken);
        return socket;
    }

    public async ValueTask DisposeAsync()
    {
        await _app.DisposeAsync();
        _loopback.Dispose();
        Certificate.Dispose();
    }

    private static X509Certificate2 MakeCertificate()
    {
        using var key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        var request = new CertificateRequest($"CN={Name}", key, HashAlgorithmName.SHA256);
        var names = new SubjectAlternativeNameBuilder();
        names.AddDnsName(Name);
        request.CertificateExtensions.Add(names.Build());
        request.CertificateExtensions.Add(new X509BasicConstraintsExtension(true, false, 0, true));
        using var made = request.CreateSelfSigned(DateTimeOffset.UtcNow.AddHours(-1), DateTimeOffset.UtcNow.AddDays(1));
        return X509CertificateLoader.LoadPkcs12(made.Export(X509ContentType.Pkcs12), null);
    }
}
