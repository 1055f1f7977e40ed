using System.Net;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using Microsoft.AspNetCore.Http;
using Sandbox.Abstractions;
using Sandbox.Egress.Proxy.Tls;
using Xunit;

namespace Sandbox.Egress.Tests.Proxy;

/// <summary>Servers that must not be trusted, and the authority.</summary>
public sealed class UpstreamTests
{
    [Theory]
    [InlineData("expired")]
    [InlineData("another name")]
    [InlineData("another root")]
    [InlineData("signed by itself")]
    public async Task A_certificate_that_is_not_good_is_not_accepted(string fault)
    {
        using var stranger = TenantAuthority.Create("stranger");
        using var key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        using var certificate = fault switch
        {
            "another name" => TestServers.Certificate("other.example.com"),
            "another root" => stranger.Issue(ProxyRig.Name, key),
            "signed by itself" => SelfSigned(key),
            _ => Expired(key),
        };
        await using var web = await TestServers.WebAsync(http => http.Response.WriteAsync("stolen"), certificate);
        await using var rig = await InterceptTests.StartAsync(web);
        using var client = rig.Client();

        var response = await client.GetAsync($"https://{ProxyRig.Name}/");

        Assert.Equal(HttpStatusCode.BadGateway, response.StatusCode);
        Assert.Contains("can be trusted", await response.Content.ReadAsStringAsync());
        Assert.Equal(EgressOutcome.Failed, (await rig.Log.WaitAsync(r => r.Kind == EgressRecordKind.Request)).Outcome);
    }

    [Fact]
    public async Task A_server_that_cannot_be_reached_is_a_bad_gateway()
    {
        await using var rig = await ProxyRig.StartAsync(r => r.Decisions.Intercepted.Add(ProxyRig.Name));
        using var client = rig.Client();

        var response = await client.GetAsync($"https://{ProxyRig.Name}/");

        Assert.Equal(HttpStatusCode.BadGateway, response.StatusCode);
        Assert.Equal((EgressOutcome.Failed, 502), await rig.Log.WaitAsync(r => r.Kind == EgressRecordKind.Request) is var line ? (line.Outcome, line.Status) : default);
    }

    [Fact]
    public async Task A_connection_to_one_address_is_not_used_for_another()
    {
        var elsewhere = IPAddress.Parse("93.184.215.15");
        await using var right = await TestServers.WebAsync(http => http.Response.WriteAsync("right"));
        await using var wrong = await TestServers.WebAsync(http => http.Response.WriteAsync("wrong"));
        await using var rig = await InterceptTests.StartAsync(right, r => r.Decisions.Addresses.Add(elsewhere), 80);
        rig.Route(elsewhere, 80, wrong.EndPoint);

        // The address is permitted by itself, and the name is a claim there.
        async Task<string> AskAsync(IPAddress address)
        {
            await using var stream = new System.Net.Sockets.NetworkStream(await rig.ConnectAsync(address, 80), ownsSocket: true);
            return await RawHttp.ExchangeAsync(stream, $"GET / HTTP/1.1\r\nHost: {ProxyRig.Name}\r\nConnection: close\r\n\r\n");
        }

        Assert.Contains("wrong", await AskAsync(elsewhere));
        Assert.Contains("right", await AskAsync(ProxyRig.Address));
    }

    [Fact]
    public async Task An_answer_that_breaks_off_is_not_taken_for_a_whole_one()
    {
        await using var web = await TestServers.WebAsync(
            async http =>
            {
                http.Response.ContentLength = 100;
                await http.Response.WriteAsync("half");
                await http.Response.Body.FlushAsync();
                http.Abort();
            },
            TestServers.Certificate(ProxyRig.Name));
        await using var rig = await InterceptTests.StartAsync(web);
        using var client = rig.Client();

        await Assert.ThrowsAsync<HttpRequestException>(() => client.GetStringAsync($"https://{ProxyRig.Name}/"));

        Assert.Equal(EgressOutcome.Failed, (await rig.Log.WaitAsync(r => r.Kind == EgressRecordKind.Request)).Outcome);
    }

    [Fact]
    public void An_authority_is_the_same_after_it_was_stored()
    {
        using var authority = TenantAuthority.Create(new string('t', 100));
        using var again = TenantAuthority.Load(authority.CertificatePem, authority.ExportPrivateKey());
        using var key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        using var leaf = again.Issue("a.example.com", key);
        using var chain = new X509Chain { ChainPolicy = { TrustMode = X509ChainTrustMode.CustomRootTrust, CustomTrustStore = { authority.Certificate }, RevocationMode = X509RevocationMode.NoCheck } };

        Assert.True(chain.Build(leaf));
        Assert.True(leaf.MatchesHostname("a.example.com"));
        using var other = TenantAuthority.Create("other");
        Assert.Throws<CryptographicException>(() => TenantAuthority.Load(authority.CertificatePem, other.ExportPrivateKey()));
    }

    [Fact]
    public void Certificates_are_kept_for_as_many_names_as_were_used_last()
    {
        using var authority = TenantAuthority.Create("t");
        var time = new Microsoft.Extensions.Time.Testing.FakeTimeProvider(DateTimeOffset.UtcNow);
        var leaves = new LeafCertificates(authority, 2, time);
        var a = leaves.For("a.example");
        leaves.For("b.example");
        Assert.Same(a, leaves.For("a.example"));
        leaves.For("c.example");
        Assert.Equal(2, leaves.Count);
        Assert.Same(a, leaves.For("a.example"));

        time.Advance(TimeSpan.FromDays(4));
        Assert.NotSame(a, leaves.For("a.example"));
    }

    private static X509Certificate2 SelfSigned(ECDsa key)
    {
        var request = new CertificateRequest($"CN={ProxyRig.Name}", key, HashAlgorithmName.SHA256);
        var names = new SubjectAlternativeNameBuilder();
        names.AddDnsName(ProxyRig.Name);
        request.CertificateExtensions.Add(names.Build());
        return request.CreateSelfSigned(DateTimeOffset.UtcNow.AddDays(-1), DateTimeOffset.UtcNow.AddDays(1));
    }

    /// <summary>Of the test root, which would be trusted.</summary>
    private static X509Certificate2 Expired(ECDsa key)
    {
        var past = new Microsoft.Extensions.Time.Testing.FakeTimeProvider(DateTimeOffset.UtcNow.AddDays(-6));
        using var root = TenantAuthority.Load(TestServers.Root.CertificatePem, TestServers.Root.ExportPrivateKey(), past);
        return root.Issue(ProxyRig.Name, key);
    }
}
