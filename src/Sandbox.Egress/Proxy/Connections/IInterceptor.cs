using System.Net.Security;

namespace Sandbox.Egress.Proxy.Connections;

/// <summary>Serves connections that are looked into.</summary>
internal interface IInterceptor
{
    /// <summary>Serves HTTP on a stream until it ends.</summary>
    /// <param name="connection">The connection.</param>
    /// <param name="stream">What the guest sends and gets, without TLS.</param>
    /// <param name="protocol">With TLS: what was agreed on; default: it is in clear.</param>
    /// <param name="isTls">Whether the guest's side is TLS.</param>
    Task ServeAsync(GuestConnection connection, Stream stream, SslApplicationProtocol protocol, bool isTls);
}
