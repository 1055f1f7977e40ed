using System.Collections.Concurrent;
using System.Net;
using System.Net.Security;
using System.Net.Sockets;
using System.Security.Authentication;
using System.Security.Cryptography.X509Certificates;
using Sandbox.Egress.Proxy;
using Sandbox.Egress.Proxy.Tls;

namespace Sandbox.Egress.Tests.Proxy;

/// <summary>
/// A session's proxy between real sockets. "The internet" is a table from public addresses to servers on loopback; where a guest's connection wants to go is said by the port that it comes from, as the kernel would say it.
/// </summary>
internal sealed class ProxyRig : IAsyncDisposable
{
    public const string Name = "api.example.com";
    public static readonly IPAddress Address = IPAddress.Parse("93.184.215.14");

    private readonly Source _source = new();
    private readonly Internet _internet;

    private ProxyRig(ProxyHost host, Internet internet, TenantAuthority authority)
    {
        (Host, _internet, Authority) = (host, internet, authority);
        Context = new ProxyContext { Tenant = "t", SessionId = "s", Decisions = Decisions, Secrets = new FakeSwap(), Auditor = Auditor, Names = Names, Log = Log };
        Names.Pin(Name, Address);
    }

    public ProxyHost Host { get; }

    public TenantAuthority Authority { get; }

    public FakeDecisions Decisions { get; } = new();

    public FakeNames Names { get; } = new();

    public FakeLog Log { get; } = new();

    public FakeAuditor Auditor { get; } = new();

    public ProxyContext Context { get; set; }

    public SessionProxy Proxy { get; private set; } = null!;

    public IReadOnlyCollection<IPEndPoint> Dialled => _internet.Dialled;

    public static async Task<ProxyRig> StartAsync(Action<ProxyRig>? setUp = null, ProxyOptions? options = null, TimeProvider? time = null)
    {
        options = (options ?? new ProxyOptions()) with { UpstreamRoots = [TestServers.Root.Certificate] };
        var internet = new Internet(options);
        var rig = new ProxyRig(await ProxyHost.StartAsync(options, internet, time), internet, TenantAuthority.Create("t"));
        setUp?.Invoke(rig);
        rig.Proxy = SessionProxy.Start(rig.Host, rig._source, rig.Context, new LeafCertificates(rig.Authority));
        return rig;
    }

    /// <summary>Puts a server into the internet.</summary>
    public void Route(IPAddress address, int port, IPEndPoint server) => _internet.Servers[new IPEndPoint(address, port)] = server;

    /// <summary>Connects as the guest does.</summary>
    public async Task<Socket> ConnectAsync(IPAddress address, int port)
    {
        var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };
        socket.Bind(new IPEndPoint(IPAddress.Loopback, 0));
        _source.Destinations[((IPEndPoint)socket.LocalEndPoint!).Port] = new IPEndPoint(address, port);

        // Not asynchronously: one that is refused at once would be noticed as reset before it is noticed as connected.
        await Task.Run(() => socket.Connect(_source.EndPoint));
        return socket;
    }

    public Task<Socket> ConnectAsync(int port = 443) => ConnectAsync(Address, port);

    /// <summary>Connects with TLS, trusting an authority alone.</summary>
    public async Task<SslStream> ConnectTlsAsync(X509Certificate2 trusted, string name = Name, int port = 443, params SslApplicationProtocol[] protocols)
    {
        var stream = new SslStream(new NetworkStream(await ConnectAsync(port), ownsSocket: true));
        try
        {
            await stream.AuthenticateAsClientAsync(TlsOptions(trusted, name, protocols)).WaitAsync(TimeSpan.FromSeconds(20));
            return stream;
        }
        catch
        {
            await stream.DisposeAsync();
            throw;
        }
    }

    /// <summary>A client in the guest, that trusts the tenant's authority alone.</summary>
    public HttpClient Client(Version? version = null)
    {
        var handler = new SocketsHttpHandler
        {
            UseProxy = false,
            AllowAutoRedirect = false,
            SslOptions = TlsOptions(Authority.Certificate, null),
            ConnectCallback = async (context, _) => new NetworkStream(await ConnectAsync(context.DnsEndPoint.Port), ownsSocket: true),
        };
        handler.SslOptions.ApplicationProtocols = null;
        return new HttpClient(handler)
        {
            DefaultRequestVersion = version ?? HttpVersion.Version11,
            DefaultVersionPolicy = HttpVersionPolicy.RequestVersionExact,
            Timeout = TimeSpan.FromSeconds(30),
        };
    }

    public async ValueTask DisposeAsync()
    {
        await Proxy.DisposeAsync();
        await Host.DisposeAsync();
        Authority.Dispose();
    }

    private static SslClientAuthenticationOptions TlsOptions(X509Certificate2 trusted, string? name, params SslApplicationProtocol[] protocols) => new()
    {
        TargetHost = name,
        EnabledSslProtocols = SslProtocols.None,
        ApplicationProtocols = [.. protocols],
        CertificateChainPolicy = new X509ChainPolicy { TrustMode = X509ChainTrustMode.CustomRootTrust, RevocationMode = X509RevocationMode.NoCheck, CustomTrustStore = { trusted } },
    };

    private sealed class Source : IConnectionSource
    {
        private readonly Socket _listener = new(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);

        public Source()
        {
            _listener.Bind(new IPEndPoint(IPAddress.Loopback, 0));
            _listener.Listen(512);
        }

        public ConcurrentDictionary<int, IPEndPoint> Destinations { get; } = [];

        public IPEndPoint EndPoint => (IPEndPoint)_listener.LocalEndPoint!;

        public async ValueTask<AcceptedConnection?> AcceptAsync(CancellationToken cancellationToken)
        {
            var socket = await _listener.AcceptAsync(cancellationToken);
            return new AcceptedConnection(socket, Destinations[((IPEndPoint)socket.RemoteEndPoint!).Port]);
        }

        public void Dispose() => _listener.Dispose();
    }

    private sealed class Internet(ProxyOptions options) : IUpstreamDialer
    {
        public ConcurrentDictionary<IPEndPoint, IPEndPoint> Servers { get; } = [];

        public ConcurrentBag<IPEndPoint> Dialled { get; } = [];

        public async ValueTask<Socket> ConnectAsync(IPEndPoint destination, CancellationToken cancellationToken)
        {
            Dialled.Add(destination);
            if (!options.MayReach(destination.Address))
            {
                throw new UnreachableAddressException(destination.Address);
            }

            if (!Servers.TryGetValue(destination, out var server))
            {
                throw new SocketException((int)SocketError.ConnectionRefused);
            }

            var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };
            await socket.ConnectAsync(server, cancellationToken);
            return socket;
        }
    }
}
