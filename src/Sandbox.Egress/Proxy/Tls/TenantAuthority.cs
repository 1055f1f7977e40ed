using System.Net;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;

namespace Sandbox.Egress.Proxy.Tls;

/// <summary>
/// The certificate authority of one tenant (ECDSA P-256). Only the tenant's own guests trust it, and its key never leaves the cluster's storage and the memory of hosts that run its sessions. Disposing of it forgets the key.
/// </summary>
public sealed class TenantAuthority : ICertificateAuthority, IDisposable
{
    // Guests keep the certificate in snapshots and templates for as long as those live; changing it means making them anew.
    private const int Years = 10;

    // A guest's clock may lag behind for a moment when it was resumed, and a certificate must outlive the connections it is used for.
    private static readonly TimeSpan Backdated = TimeSpan.FromDays(2);
    private static readonly TimeSpan LeafLifetime = TimeSpan.FromDays(5);
    private readonly X509Certificate2 _signer;
    private readonly TimeProvider _time;

    private TenantAuthority(X509Certificate2 signer, TimeProvider time)
    {
        (_signer, _time) = (signer, time);
        Certificate = X509CertificateLoader.LoadCertificate(signer.RawData);
    }

    /// <inheritdoc/>
    public X509Certificate2 Certificate { get; }

    /// <summary>The certificate in PEM, for guests and for storage.</summary>
    public string CertificatePem => Certificate.ExportCertificatePem();

    /// <summary>Makes a new authority, good for ten years.</summary>
    /// <param name="tenant">Tenant; stands in its name.</param>
    /// <param name="time">Clock.</param>
    public static TenantAuthority Create(string tenant, TimeProvider? time = null)
    {
        ArgumentException.ThrowIfNullOrEmpty(tenant);
        time ??= TimeProvider.System;
        using var key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        var name = new X500DistinguishedNameBuilder();
        name.AddCommonName("Sandbox egress authority");

        // X.520 allows 64 characters, and some parsers insist.
        name.AddOrganizationName(tenant.Length > 64 ? tenant[..64] : tenant);
        var request = new CertificateRequest(name.Build(), key, HashAlgorithmName.SHA256);
        request.CertificateExtensions.Add(new X509BasicConstraintsExtension(certificateAuthority: true, hasPathLengthConstraint: true, pathLengthConstraint: 0, critical: true));
        request.CertificateExtensions.Add(new X509KeyUsageExtension(X509KeyUsageFlags.KeyCertSign | X509KeyUsageFlags.CrlSign, critical: true));
        request.CertificateExtensions.Add(new X509SubjectKeyIdentifierExtension(request.PublicKey, critical: false));
        var now = time.GetUtcNow();
        return new TenantAuthority(request.CreateSelfSigned(now - Backdated, now.AddYears(Years)), time);
    }

    /// <summary>Takes up an authority that was stored.</summary>
    /// <param name="certificatePem"><see cref="CertificatePem"/>.</param>
    /// <param name="privateKey">What <see cref="ExportPrivateKey"/> gave.</param>
    /// <param name="time">Clock.</param>
    /// <exception cref="CryptographicException">They make no sense, or do not belong together.</exception>
    public static TenantAuthority Load(string certificatePem, ReadOnlySpan<byte> privateKey, TimeProvider? time = null)
    {
        using var certificate = X509Certificate2.CreateFromPem(certificatePem);
        using var key = ECDsa.Create();
        key.ImportPkcs8PrivateKey(privateKey, out _);
        try
        {
            return new TenantAuthority(certificate.CopyWithPrivateKey(key), time ?? TimeProvider.System);
        }
        catch (ArgumentException e)
        {
            throw new CryptographicException("The private key does not belong to the authority's certificate. Store both anew, from the same TenantAuthority.", e);
        }
    }

    /// <summary>The private key as PKCS#8. Whoever has it can pass for any host in front of the tenant's guests.</summary>
    public byte[] ExportPrivateKey()
    {
        using var key = _signer.GetECDsaPrivateKey()!;
        return key.ExportPkcs8PrivateKey();
    }

    /// <inheritdoc/>
    public X509Certificate2 Issue(string name, ECDsa key)
    {
        ArgumentException.ThrowIfNullOrEmpty(name);
        ArgumentNullException.ThrowIfNull(key);
        var subject = new X500DistinguishedNameBuilder();
        if (name.Length <= 64)
        {
            subject.AddCommonName(name);
        }

        var names = new SubjectAlternativeNameBuilder();
        if (IPAddress.TryParse(name, out var address))
        {
            names.AddIpAddress(address);
        }
        else
        {
            names.AddDnsName(name);
        }

        var request = new CertificateRequest(subject.Build(), key, HashAlgorithmName.SHA256);
        request.CertificateExtensions.Add(names.Build(critical: name.Length > 64));
        request.CertificateExtensions.Add(new X509BasicConstraintsExtension(false, false, 0, critical: true));
        request.CertificateExtensions.Add(new X509KeyUsageExtension(X509KeyUsageFlags.DigitalSignature, critical: true));
        request.CertificateExtensions.Add(new X509EnhancedKeyUsageExtension([new Oid("1.3.6.1.5.5.7.3.1")], critical: false));
        request.CertificateExtensions.Add(X509AuthorityKeyIdentifierExtension.CreateFromCertificate(Certificate, includeKeyIdentifier: true, includeIssuerAndSerial: false));
        var now = _time.GetUtcNow();
        var (from, until) = (Later(now - Backdated, Certificate.NotBefore), Earlier(now + LeafLifetime, Certificate.NotAfter));
        Span<byte> serial = stackalloc byte[16];
        RandomNumberGenerator.Fill(serial);
        serial[0] &= 0x7f;
        serial[0] |= 0x40;
        using var certificate = request.Create(_signer, from, until, serial);
        return certificate.CopyWithPrivateKey(key);
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _signer.Dispose();
        Certificate.Dispose();
    }

    private static DateTimeOffset Later(DateTimeOffset a, DateTimeOffset b) => a > b ? a : b;

    private static DateTimeOffset Earlier(DateTimeOffset a, DateTimeOffset b) => a < b ? a : b;
}
