using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;

namespace Sandbox.Egress.Proxy.Tls;

/// <summary>Signs certificates for hosts whose traffic is looked into. Safe for concurrent use.</summary>
public interface ICertificateAuthority
{
    /// <summary>The authority's own certificate, without its key: what guests are to trust.</summary>
    X509Certificate2 Certificate { get; }

    /// <summary>Makes a certificate, with its key, for a host name or an address.</summary>
    /// <param name="name">Name in ASCII, or an address.</param>
    /// <param name="key">The certificate's key.</param>
    X509Certificate2 Issue(string name, ECDsa key);
}
