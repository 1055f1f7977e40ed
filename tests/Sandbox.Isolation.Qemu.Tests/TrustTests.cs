using System.Net;
using System.Net.Security;
using System.Net.Sockets;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Text;
using Sandbox.Guest.Protocol;
using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Guest;
using Sandbox.Isolation.Images;
using Sandbox.Isolation.Network;
using Sandbox.Isolation.TestSupport;
using Xunit;
using static Sandbox.Isolation.TestSupport.GuestRuns;

namespace Sandbox.Isolation.Qemu.Tests;

/// <summary>An authority that the guest is told of is trusted by its programs, and by interpreters that ran before.</summary>
public sealed class TrustTests(BackendFixture fixture) : IClassFixture<BackendFixture>
{
    private const string Server = DocumentationServers.First;
    private const string PythonGet = $"import urllib.request\nprint(urllib.request.urlopen('https://{Server}/', timeout=60).read().decode())";
    private const string NodeGet = $"await new Promise(done => require('https').get('https://{Server}/', r => r.on('data', d => console.log(d.toString())).on('end', done)).on('error', e => {{ console.log(e.code); done(); }}))";
    private static readonly TemplateSizes Sizes = new() { Vcpus = 1, MemoryMiB = 512, DiskMiB = 208 };

    private static CancellationToken Ct => TestContext.Current.CancellationToken;

    [Fact]
    public async Task Programs_and_warm_interpreters_trust_it_and_its_successor_replaces_it()
    {
        await fixture.BuildGoldenAsync(Sizes);
        await using var vm = await fixture.Backend.StartAsync(fixture.Spec(Sizes.MemoryMiB, Sizes.DiskMiB), Ct);
        Assert.Equal("clone", vm.StartReport.Method);
        using var first = new Authority("first");
        using var server = new TlsServer(vm.Network!) { Authority = first };
        await vm.Network!.OpenAsync([new OpenEndpoint(IPAddress.Parse(Server), 443, TimeSpan.FromHours(1))], Ct);

        // The interpreters were started when the golden snapshot was made.
        foreach (var language in (string[])["python", "javascript"])
        {
            await vm.Guest.RequestAsync(new Request { CreateContext = new CreateContext { ContextId = language, Language = language } }, Ct);
        }

        Assert.Contains("CERTIFICATE_VERIFY_FAILED", (await CodeAsync(vm, "python", PythonGet)).Error!.Traceback, StringComparison.Ordinal);
        await TrustAsync(vm, first.Pem);
        Assert.Equal("hello\n", (await CodeAsync(vm, "python", PythonGet)).Stdout);
        Assert.Equal("hello\n", (await CodeAsync(vm, "javascript", NodeGet)).Stdout);
        Assert.Equal("hello", (await ShellAsync(vm, $"curl -sS https://{Server}/")).Stdout);
        Assert.Equal("hello", (await ShellAsync(vm, $"env -i curl -sS https://{Server}/")).Stdout);
        Assert.Equal("hello\n", (await ShellAsync(vm, $"node -e \"require('https').get('https://{Server}/', r => r.on('data', d => console.log(d.toString())))\"")).Stdout);

        var bundle = await ShellAsync(vm, "sha256sum < /etc/ssl/certs/ca-certificates.crt; grep -c BEGIN /etc/ssl/certs/ca-certificates.crt");
        await TrustAsync(vm, first.Pem);
        Assert.Equal(bundle.Stdout, (await ShellAsync(vm, "sha256sum < /etc/ssl/certs/ca-certificates.crt; grep -c BEGIN /etc/ssl/certs/ca-certificates.crt")).Stdout);

        using var second = new Authority("second");
        server.Authority = second;
        await TrustAsync(vm, second.Pem);
        Assert.Equal("hello\n", (await CodeAsync(vm, "python", PythonGet)).Stdout);
        Assert.Equal("hello", (await ShellAsync(vm, $"curl -sS https://{Server}/")).Stdout);
        Assert.Equal(bundle.Stdout.Split('\n')[1], (await ShellAsync(vm, "grep -c BEGIN /etc/ssl/certs/ca-certificates.crt")).Stdout.Trim());
        server.Authority = first;
        Assert.Equal(60, (await ShellAsync(vm, $"curl -sS https://{Server}/")).Exited.ExitCode);

        // What Debian makes of its own bundle later has it too, once.
        await ShellAsync(vm, "update-ca-certificates", user: "root");
        await TrustAsync(vm, second.Pem);
        Assert.Equal(bundle.Stdout.Split('\n')[1], (await ShellAsync(vm, "grep -c BEGIN /etc/ssl/certs/ca-certificates.crt")).Stdout.Trim());
        Assert.Equal("mine\n", (await RunAsync(vm, new StartExecution { Command = new Command { Argv = { "sh", "-c", "echo $SSL_CERT_FILE" } }, Env = { ["SSL_CERT_FILE"] = "mine" } }, Ct)).Stdout);
    }

    [Theory]
    [InlineData("")]
    [InlineData("no certificate")]
    [InlineData("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")]
    public async Task What_is_no_certificate_is_refused(string pem)
    {
        await fixture.BuildGoldenAsync(Sizes);
        await using var vm = await fixture.Backend.StartAsync(fixture.Spec(Sizes.MemoryMiB, Sizes.DiskMiB), Ct);
        Assert.Equal(ErrorCode.InvalidArgument, (await Assert.ThrowsAsync<GuestException>(() => TrustAsync(vm, pem))).Code);
    }

    private static Task TrustAsync(IMicroVm vm, string pem) => vm.Guest.RequestAsync(new Request { TrustAuthority = new TrustAuthority { Pem = pem } }, Ct);

    private sealed class Authority : IDisposable
    {
        private readonly X509Certificate2 _root;

        public Authority(string name)
        {
            using var key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
            var request = new CertificateRequest("CN=" + name, key, HashAlgorithmName.SHA256);
            request.CertificateExtensions.Add(new X509BasicConstraintsExtension(true, false, 0, true));
            request.CertificateExtensions.Add(new X509KeyUsageExtension(X509KeyUsageFlags.KeyCertSign, true));
            _root = request.CreateSelfSigned(DateTimeOffset.UtcNow.AddDays(-1), DateTimeOffset.UtcNow.AddDays(30));
            using var leafKey = ECDsa.Create(ECCurve.NamedCurves.nistP256);
            var leaf = new CertificateRequest("CN=server", leafKey, HashAlgorithmName.SHA256);
            var names = new SubjectAlternativeNameBuilder();
            names.AddIpAddress(IPAddress.Parse(Server));
            leaf.CertificateExtensions.Add(names.Build());
            using var signed = leaf.Create(_root, DateTimeOffset.UtcNow.AddHours(-1), DateTimeOffset.UtcNow.AddDays(1), RandomNumberGenerator.GetBytes(8));
            using var whole = signed.CopyWithPrivateKey(leafKey);
            Leaf = X509CertificateLoader.LoadPkcs12(whole.Export(X509ContentType.Pkcs12), null);
        }

        public X509Certificate2 Leaf { get; }

        public string Pem => _root.ExportCertificatePem();

        public void Dispose()
        {
            Leaf.Dispose();
            _root.Dispose();
        }
    }

    /// <summary>Answers every request with "hello".</summary>
    private sealed class TlsServer : IDisposable
    {
        private readonly Socket _listener;

        public TlsServer(IGuestNetwork network)
        {
            _listener = network.Listen(NetworkPlan.ProxyPort);
            _ = RunAsync();
        }

        public required Authority Authority { get; set; }

        public void Dispose() => _listener.Dispose();

        private async Task RunAsync()
        {
            try
            {
                while (true)
                {
                    _ = ServeAsync(await _listener.AcceptAsync());
                }
            }
            catch (Exception e) when (e is SocketException or ObjectDisposedException)
            {
                // The test is over.
            }
        }

        private async Task ServeAsync(Socket connection)
        {
            try
            {
                await using var tls = new SslStream(new NetworkStream(connection, ownsSocket: true));
                await tls.AuthenticateAsServerAsync(Authority.Leaf);
                _ = await tls.ReadAsync(new byte[8192]);
                await tls.WriteAsync(Encoding.ASCII.GetBytes("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello"));
            }
            catch (Exception e) when (e is IOException or System.Security.Authentication.AuthenticationException or SocketException)
            {
                // A client that does not trust it.
            }
        }
    }
}
