using System.Collections.Concurrent;
using System.Net;
using System.Net.Sockets;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Sandbox.EndToEnd.Tests.Harness;
using Xunit;

namespace Sandbox.EndToEnd.Tests.Egress;

/// <summary>
/// An outside with a registry, an API, a site that nobody may reach, and a name server; on the host, listeners where nobody may ever arrive; and a server of ours whose sessions go through the controlled door.
/// </summary>
[CollectionDefinition(Name)]
public sealed class OutsideWorld : IAsyncLifetime, ICollectionFixture<OutsideWorld>
{
    /// <summary>Of the collection of tests that share it: its addresses are there once.</summary>
    public const string Name = "outside";

    internal const string Registry = "198.51.100.10";
    internal const string Api = "198.51.100.11";
    internal const string Evil = "198.51.100.12";
    private const string NameServer = "198.51.100.53";
    private readonly List<IAsyncDisposable> _sites = [];
    private readonly List<Socket> _canaries = [];
    private readonly string _folder = Directory.CreateTempSubdirectory("sandbox-outside-").FullName;
    private OutsideNamespace _outside = null!;
    private OutsideDns _dns = null!;

    public SandboxServer Server { get; private set; } = null!;

    public SandboxApi SandboxApi => Server.Api;

    /// <summary>Configuration that makes a server's outside this one.</summary>
    public string Config { get; private set; } = "";

    internal OutsideAuthority Authority { get; } = new();

    internal OutsideDns Dns => _dns;

    internal OutsideModel Model { get; private set; } = null!;

    internal OutsideSite ApiSite { get; private set; } = null!;

    internal OutsideSite RegistrySite { get; private set; } = null!;

    internal OutsideSite EvilSite { get; private set; } = null!;

    /// <summary>What arrived where nothing may arrive.</summary>
    public ConcurrentQueue<string> Leaks { get; } = new();

    public async ValueTask InitializeAsync()
    {
        _outside = new OutsideNamespace(((string[])[Registry, Api, Evil, NameServer]).Select(IPAddress.Parse));
        _dns = new OutsideDns(_outside, IPAddress.Parse(NameServer));
        foreach (var (name, addresses) in new Dictionary<string, string[]>
        {
            ["registry.test"] = [Registry],
            ["api.test"] = [Api],
            ["evil.test"] = [Evil],
            ["private.test"] = ["10.0.0.5"],
            ["metadata.test"] = ["169.254.169.254"],
            ["loop.test"] = ["127.0.0.1"],
            ["rebind.test"] = [Api, "127.0.0.1"],
        })
        {
            _dns.Set(name, addresses);
        }

        _sites.Add(RegistrySite = await OutsideSite.StartAsync(_outside, Registry, Authority.Certificate("registry.test"), OutsideRegistry.Map));
        _sites.Add(ApiSite = await OutsideSite.StartAsync(_outside, Api, Authority.Certificate("api.test", "rebind.test"), MapApi, 8080));
        _sites.Add(EvilSite = await OutsideSite.StartAsync(_outside, Evil, Authority.Certificate("evil.test"), app => app.MapFallback(() => "you should not be here")));
        Watch(OutsideNamespace.HostAddress, 80, ProtocolType.Tcp);
        Watch(OutsideNamespace.HostAddress, 9999, ProtocolType.Udp);
        Watch(IPAddress.Loopback, 9999, ProtocolType.Udp);

        _sites.Add(Model = await OutsideModel.StartAsync());
        var roots = Path.Combine(_folder, "roots.pem");
        await File.WriteAllTextAsync(roots, Authority.Pem);
        Config = Path.Combine(_folder, "config.json");
        await File.WriteAllTextAsync(Config, $$"""{"egressNameServers": "{{NameServer}}", "egressRoots": "{{roots}}", "egressAlsoPublic": "{{OutsideNamespace.Range}}", "egressAuditorUrl": "{{Model.Url}}/v1", "egressAuditorModel": "scripted"}""");
        Server = SandboxServer.PrepareWith("qemu,oci", "--warm-pool", "1", "--config", Config);
        await Server.RestartAsync();
    }

    public async ValueTask DisposeAsync()
    {
        if (Server is not null)
        {
            await Server.DisposeAsync();
        }

        foreach (var site in _sites)
        {
            await site.DisposeAsync();
        }

        _canaries.ForEach(c => c.Dispose());
        _dns?.Dispose();
        _outside?.Dispose();
        Authority.Dispose();
        Directory.Delete(_folder, recursive: true);
    }

    private static void MapApi(WebApplication app)
    {
        app.MapGet("/echo", (HttpContext context) => Results.Json(new { host = context.Request.Host.Value, headers = context.Request.Headers.ToDictionary(h => h.Key, h => h.Value.ToString()) }));
        app.MapPost("/echo", async (HttpRequest request) => Results.Text(await new StreamReader(request.Body).ReadToEndAsync()));
        app.MapGet("/public/{name}", (string name) => "public " + name);
        app.MapGet("/private/{name}", (string name) => "private " + name);
        app.MapGet("/smuggled", () => "smuggled");
        app.MapGet("/redirect", (string to) => Results.Redirect(to));
        app.MapGet("/wait", async (HttpContext context) =>
        {
            await context.Response.WriteAsync("waiting\n", context.RequestAborted);
            await context.Response.Body.FlushAsync(context.RequestAborted);
            await Task.Delay(Timeout.Infinite, context.RequestAborted);
        });
        app.MapGet("/drip", async (HttpContext context) =>
        {
            for (var i = 0; i < 600; i++)
            {
                await context.Response.WriteAsync($"{i}\n", context.RequestAborted);
                await context.Response.Body.FlushAsync(context.RequestAborted);
                await Task.Delay(100, context.RequestAborted);
            }
        });
    }

    /// <summary>Listens on the host itself, where whatever arrives is a leak.</summary>
    private void Watch(IPAddress address, int port, ProtocolType protocol)
    {
        var socket = new Socket(AddressFamily.InterNetwork, protocol == ProtocolType.Tcp ? SocketType.Stream : SocketType.Dgram, protocol);
        socket.Bind(new IPEndPoint(address, port));
        _canaries.Add(socket);
        if (protocol == ProtocolType.Tcp)
        {
            socket.Listen(16);
        }

        _ = Task.Run(async () =>
        {
            try
            {
                while (true)
                {
                    if (protocol == ProtocolType.Tcp)
                    {
                        using var arrived = await socket.AcceptAsync();
                        Leaks.Enqueue($"{address}:{port} was reached from {arrived.RemoteEndPoint}");
                    }
                    else
                    {
                        var got = await socket.ReceiveFromAsync(new byte[1500], SocketFlags.None, new IPEndPoint(IPAddress.Any, 0));
                        Leaks.Enqueue($"{address}:{port} got a datagram from {got.RemoteEndPoint}");
                    }
                }
            }
            catch (Exception e) when (e is SocketException or ObjectDisposedException)
            {
                // The tests are over.
            }
        });
    }
}
