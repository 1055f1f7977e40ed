using System.Net.Security;
using System.Security.Authentication;
using Sandbox.Egress.Proxy.Connections;

namespace Sandbox.Egress.Proxy.Tls;

/// <summary>Ends a guest's TLS with a certificate of its tenant's authority.</summary>
internal static class GuestTls
{
    private static readonly List<SslApplicationProtocol> Protocols = [SslApplicationProtocol.Http2, SslApplicationProtocol.Http11];

    /// <summary>Shakes hands. The stream is the caller's to dispose of.</summary>
    /// <exception cref="AuthenticationException">The guest did not take our certificate, or speaks no version or protocol that we do.</exception>
    /// <exception cref="IOException">The guest went.</exception>
    public static async Task<SslStream> AcceptAsync(GuestConnection connection, Stream stream, string name)
    {
        var host = connection.Session.Host;
        using var limit = new CancellationTokenSource(host.Options.HeadTimeout, host.Time);
        using var either = CancellationTokenSource.CreateLinkedTokenSource(limit.Token, connection.Ended);
        var tls = new SslStream(stream, leaveInnerStreamOpen: true);
        try
        {
            await tls.AuthenticateAsServerAsync(
                new SslServerAuthenticationOptions
                {
                    ServerCertificateContext = connection.Session.Certificates!.For(name),
                    ApplicationProtocols = Protocols,
                    EnabledSslProtocols = SslProtocols.Tls12 | SslProtocols.Tls13,
                    ClientCertificateRequired = false,
                },
                either.Token);
            return tls;
        }
        catch (Exception e) when (e is AuthenticationException or IOException)
        {
            await tls.DisposeAsync();
            throw new AuthenticationException($"The TLS handshake with the guest for {name} failed; programs in it must trust the tenant's authority. {e.Message}", e);
        }
        catch
        {
            await tls.DisposeAsync();
            throw;
        }
    }
}
