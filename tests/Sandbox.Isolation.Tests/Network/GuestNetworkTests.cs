using System.Net;
using System.Net.Sockets;
using System.Text;
using Sandbox.Isolation.Network;
using Sandbox.Isolation.TestSupport;
using Xunit;

namespace Sandbox.Isolation.Tests.Network;

/// <summary>What a machine can reach through its network, in real namespaces.</summary>
public sealed class GuestNetworkTests : IAsyncLifetime
{
    private static readonly TimeSpan Hour = TimeSpan.FromHours(1);
    private readonly NetworkScene _scene = new();
    private readonly FakeNetworkGuest _guest = new();
    private GuestNetwork _network = null!;

    private static CancellationToken Ct => TestContext.Current.CancellationToken;

    public async ValueTask InitializeAsync()
    {
        _network = await _scene.Pool.TakeAsync(Ct);
        await _network.GiveVethAsync(_guest.ProcessId, Ct);
    }

    public async ValueTask DisposeAsync()
    {
        await _network.DisposeAsync();
        _guest.Dispose();
        await _scene.DisposeAsync();
    }

    [Fact]
    public async Task Nothing_is_reachable_at_first_and_programs_learn_so_at_once()
    {
        using var proxy = new FakeProxy(_network);
        Assert.Equal("ECONNREFUSED", await _guest.ConnectAsync(NetworkScene.Public, 443));
        Assert.Equal(1, (await _network.ReadDropsAsync(Ct)).Tcp);
        Assert.Equal(0, proxy.Accepted);
    }

    [Fact]
    public async Task What_is_open_arrives_at_our_socket_and_tells_where_it_wanted_to_go()
    {
        using var proxy = new FakeProxy(_network);
        await _network.OpenAsync([Endpoint(NetworkScene.Public, 443, Hour)], Ct);
        Assert.Equal($"to {NetworkScene.Public}:443", await _guest.ConnectAsync(NetworkScene.Public, 443));
        Assert.Equal("ECONNREFUSED", await _guest.ConnectAsync(NetworkScene.Public, 80));
        Assert.Equal("ECONNREFUSED", await _guest.ConnectAsync(NetworkScene.OtherPublic, 443));
        Assert.Equal(0, (await _network.ReadDropsAsync(Ct)).NotPublic);
    }

    [Fact]
    public async Task Without_a_proxy_even_what_is_open_is_refused()
    {
        await _network.OpenAsync([Endpoint(NetworkScene.Public, 443, Hour)], Ct);
        Assert.Equal("ECONNREFUSED", await _guest.ConnectAsync(NetworkScene.Public, 443));
    }

    [Fact]
    public async Task An_endpoint_closes_when_its_time_is_over_and_a_connection_stays()
    {
        using var proxy = new FakeProxy(_network);
        await _network.OpenAsync([Endpoint(NetworkScene.Public, 443, TimeSpan.FromSeconds(1)), Endpoint(NetworkScene.OtherPublic, 443, TimeSpan.FromSeconds(1))], Ct);
        await _network.OpenAsync([Endpoint(NetworkScene.OtherPublic, 443, Hour)], Ct);
        await _network.OpenAsync([Endpoint(NetworkScene.OtherPublic, 443, TimeSpan.FromSeconds(1))], Ct);
        var told = await _guest.PythonAsync($"""
            import time
            s = socket.create_connection(('{NetworkScene.OtherPublic}', 443)); s.recv(100)
            while connect('{NetworkScene.Public}', 443) != 'ECONNREFUSED': time.sleep(0.1)
            s.sendall(b'still'); print(s.recv(5).decode(), connect('{NetworkScene.OtherPublic}', 443))
            """);
        Assert.Equal($"still to {NetworkScene.OtherPublic}:443", told);
    }

    [Fact]
    public async Task Replacing_closes_what_is_named_no_more_and_leaves_connections_alone()
    {
        using var proxy = new FakeProxy(_network);
        await _network.OpenAsync([Endpoint(NetworkScene.Public, 443, Hour)], Ct);
        var guest = _guest.PythonAsync($"""
            import time
            s = socket.create_connection(('{NetworkScene.Public}', 443)); s.recv(100)
            while connect('{NetworkScene.Public}', 443) != 'ECONNREFUSED': time.sleep(0.1)
            s.sendall(b'still'); print(s.recv(5).decode())
            """);
        while (proxy.Accepted == 0)
        {
            await Task.Delay(5, Ct);
        }

        await _network.ReplaceAsync([new OpenRange(IPNetwork.Parse("203.0.113.0/24"), 1000, 2000)], [Endpoint(NetworkScene.OtherPublic, 443, Hour)], Ct);
        Assert.Equal("still", await guest);
        Assert.Equal($"to {NetworkScene.OtherPublic}:443", await _guest.ConnectAsync(NetworkScene.OtherPublic, 443));
        Assert.Equal("to 203.0.113.200:1500", await _guest.ConnectAsync("203.0.113.200", 1500));
        Assert.Equal("ECONNREFUSED", await _guest.ConnectAsync("203.0.113.200", 2001));

        // Ranges may lie over each other, and what was open before a replacement can be opened again after it.
        await _network.ReplaceAsync([new OpenRange(IPNetwork.Parse("0.0.0.0/0"), 1, 65535), new OpenRange(IPNetwork.Parse("203.0.113.0/25"), 80, 90), new OpenRange(IPNetwork.Parse("203.0.113.0/25"), 80, 90)], [], Ct);
        Assert.Equal($"to {NetworkScene.Public}:1", await _guest.ConnectAsync(NetworkScene.Public, 1));
        await _network.ReplaceAsync([], [], Ct);
        await _network.OpenAsync([Endpoint(NetworkScene.OtherPublic, 443, Hour)], Ct);
        Assert.Equal("ECONNREFUSED", await _guest.ConnectAsync(NetworkScene.Public, 1));
        Assert.Equal($"to {NetworkScene.OtherPublic}:443", await _guest.ConnectAsync(NetworkScene.OtherPublic, 443));
    }

    [Fact]
    public async Task Many_open_at_once_and_all_are_open_when_they_return()
    {
        using var proxy = new FakeProxy(_network);
        await Task.WhenAll(Enumerable.Range(1, 60).Select(i => _network.OpenAsync([Endpoint("198.51.100." + i, 443, Hour), Endpoint("198.51.100." + i, 80, Hour), Endpoint("198.51.100.1", 443, Hour)], Ct)));
        var told = await _guest.PythonAsync("print(sum(connect('198.51.100.%d' % i, p) == 'to 198.51.100.%d:%d' % (i, p) for i in range(1, 61) for p in (80, 443)))");
        Assert.Equal("120", told);
    }

    [Theory]
    [InlineData("169.254.169.254", 80)]
    [InlineData("10.0.0.1", 22)]
    [InlineData("192.168.1.1", 80)]
    [InlineData("172.20.0.1", 443)]
    [InlineData("100.64.0.1", 443)]
    [InlineData("192.0.2.1", 443)]
    [InlineData("10.53.0.1", 22)]
    [InlineData("10.53.0.1", 15001)]
    public async Task What_is_not_public_stays_closed_whatever_is_opened(string address, int port)
    {
        using var proxy = new FakeProxy(_network);
        await _network.ReplaceAsync([new OpenRange(IPNetwork.Parse("0.0.0.0/0"), 1, 65535)], [Endpoint(address, port, Hour)], Ct);
        Assert.Equal("ECONNREFUSED", await _guest.ConnectAsync(address, port));
        Assert.Equal(1, (await _network.ReadDropsAsync(Ct)).NotPublic);
        Assert.Equal(0, proxy.Accepted);
    }

    [Fact]
    public async Task The_hosts_own_addresses_are_out_of_reach()
    {
        using var proxy = new FakeProxy(_network);
        await _network.ReplaceAsync([new OpenRange(IPNetwork.Parse("0.0.0.0/0"), 1, 65535)], [], Ct);
        using var server = new TcpListener(IPAddress.Any, 0);
        server.Start();
        var port = ((IPEndPoint)server.LocalEndpoint).Port;
        foreach (var address in (await Dns.GetHostAddressesAsync(Dns.GetHostName(), AddressFamily.InterNetwork, Ct)).Where(a => !IPAddress.IsLoopback(a)))
        {
            await _guest.ConnectAsync(address.ToString(), port);
        }

        Assert.False(server.Pending());
    }

    [Fact]
    public async Task Forged_senders_are_dropped_and_counted()
    {
        using var proxy = new FakeProxy(_network);
        using var dns = _network.BindDatagram(NetworkPlan.DnsPort);
        await _guest.SendFramesAsync("""
            ether(ip('10.53.0.3', '10.53.0.1', 17, udp(53))), ether(ip('127.0.0.1', '10.53.0.1', 17, udp(53))), ether(ip('10.53.0.2', '10.53.0.1', 17, udp(53)), source=bytes.fromhex('025342580099')),
            ether(arp(GUEST_MAC, '10.53.0.1', '10.53.0.1'), 0x0806), ether(arp(bytes.fromhex('025342580099'), '10.53.0.2', '10.53.0.1'), 0x0806), ether(arp(GUEST_MAC, '10.53.0.3', '10.53.0.1'), 0x0806),
            ether(ip('10.53.0.2', '10.53.0.1', 17, udp(53, b'mine')))
            """);
        Assert.Equal(new NetworkDrops { Spoofed = 6 }, await _network.ReadDropsAsync(Ct));
        Assert.Equal("mine", await ReceiveAsync(dns));
    }

    [Fact]
    public async Task Other_protocols_are_dropped_and_counted_by_their_kind()
    {
        await _network.ReplaceAsync([new OpenRange(IPNetwork.Parse("0.0.0.0/0"), 1, 65535)], [], Ct);
        await _guest.SendFramesAsync($"""
            ether(ip('10.53.0.2', '{NetworkScene.Public}', 17, udp(443))), ether(ip('10.53.0.2', '{NetworkScene.Public}', 17, udp(53))), ether(ip('10.53.0.2', '10.1.2.3', 17, udp(53))), ether(ip('10.53.0.2', '224.0.0.251', 17, udp(5353))),
            ether(ip('10.53.0.2', '{NetworkScene.Public}', 1, bytes.fromhex('0800f7ff00000000'))), ether(ip('10.53.0.2', '10.53.0.1', 1, bytes.fromhex('0800f7ff00000000'))), ether(ip('10.53.0.2', '{NetworkScene.Public}', 132, bytes(16))),
            ether(bytes.fromhex('6000000000083bff') + bytes(40), 0x86dd), ether(bytes(50), 0x88cc), ether(ip('10.53.0.2', '{NetworkScene.Public}', 6, bytes(24), 0x2000)),
            ether(bytes.fromhex('00050800') + ip('10.53.0.2', '10.53.0.1', 17, udp(53)), 0x8100), ether(bytes.fromhex('00000800') + ip('10.53.0.2', '10.53.0.1', 17, udp(53)), 0x8100)
            """);
        Assert.Equal(new NetworkDrops { Udp = 2, NotPublic = 3, Other = 7 }, await _network.ReadDropsAsync(Ct));
    }

    [Fact]
    public async Task Names_are_asked_at_the_gateway_by_UDP_and_TCP_and_nowhere_else()
    {
        const string Ask = "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(20); s.connect(('10.53.0.1', 53)); s.send(b'name?')\ntry: print(s.recv(100).decode())\nexcept OSError as e: print(errno.errorcode[e.errno])";
        Assert.Equal("ECONNREFUSED", await _guest.PythonAsync(Ask));
        using var dns = _network.BindDatagram(NetworkPlan.DnsPort);
        var asked = _guest.PythonAsync(Ask);
        var buffer = new byte[100];
        var got = await dns.ReceiveFromAsync(buffer, new IPEndPoint(IPAddress.Any, 0), Ct);
        await dns.SendToAsync("name!"u8.ToArray(), got.RemoteEndPoint, Ct);
        Assert.Equal("name!", await asked);

        using var listener = _network.Listen(NetworkPlan.DnsPort);
        var connecting = _guest.ConnectAsync("10.53.0.1", 53);
        using var connection = await listener.AcceptAsync(Ct);
        Assert.Contains("gateway itself", Assert.Throws<IOException>(() => _network.OriginalDestination(connection)).Message, StringComparison.Ordinal);
        await connection.SendAsync("tcp"u8.ToArray(), Ct);
        Assert.Equal("tcp", await connecting);
        Assert.Equal(0, (await _network.ReadDropsAsync(Ct)).Total);
    }

    [Fact]
    public async Task A_guest_that_woke_up_on_another_network_learns_at_once_that_its_connections_are_gone()
    {
        using var first = new FakeProxy(_network);
        await _network.OpenAsync([Endpoint(NetworkScene.Public, 443, Hour)], Ct);
        var guest = _guest.PythonAsync($"""
            import time
            s = socket.create_connection(('{NetworkScene.Public}', 443)); s.settimeout(20); s.recv(100)
            while open('/proc/net/dev').read().count('eth0'): time.sleep(0.05)
            while not open('/proc/net/dev').read().count('eth0') or not open('/proc/net/route').read().count('eth0\t00000000'): time.sleep(0.05)
            try:
                s.sendall(b'x'); print(s.recv(1))
            except OSError as e: print(errno.errorcode[e.errno])
            """);
        while (first.Accepted == 0)
        {
            await Task.Delay(5, Ct);
        }

        await _guest.PythonAsync("import subprocess; subprocess.run(['ip', 'link', 'delete', 'eth0'], check=True)");
        await using var other = await _scene.Pool.TakeAsync(Ct);
        using var second = new FakeProxy(other);
        await other.OpenAsync([Endpoint(NetworkScene.Public, 443, Hour)], Ct);
        await other.GiveVethAsync(_guest.ProcessId, Ct);
        Assert.Equal("ECONNRESET", await guest);
        Assert.Equal(0, second.Accepted);
        Assert.InRange((await other.ReadDropsAsync(Ct)).Tcp, 1, 100);
    }

    [Fact]
    public async Task Two_networks_with_the_same_addresses_know_nothing_of_each_other()
    {
        using var guest = new FakeNetworkGuest();
        await using var other = await _scene.Pool.TakeAsync(Ct);
        await other.GiveVethAsync(guest.ProcessId, Ct);
        using var first = new FakeProxy(_network, "first");
        using var second = new FakeProxy(other, "second");
        await _network.OpenAsync([Endpoint(NetworkScene.Public, 443, Hour)], Ct);
        await other.OpenAsync([Endpoint(NetworkScene.Public, 443, Hour), Endpoint(NetworkScene.Public, 80, Hour)], Ct);
        Assert.Equal($"first {NetworkScene.Public}:443", await _guest.ConnectAsync(NetworkScene.Public, 443));
        Assert.Equal($"second {NetworkScene.Public}:443", await guest.ConnectAsync(NetworkScene.Public, 443));
        Assert.Equal($"second {NetworkScene.Public}:80", await guest.ConnectAsync(NetworkScene.Public, 80));
        Assert.Equal("ECONNREFUSED", await _guest.ConnectAsync(NetworkScene.Public, 80));
    }

    [Fact]
    public async Task A_storm_of_connections_and_of_packets_is_cut_off()
    {
        using var guest = new FakeNetworkGuest();
        await using var scene = new NetworkScene(NetworkScene.TestOptions with { ConnectionsPerSecond = 1, PacketsPerSecond = 200 });
        await using var network = await scene.Pool.TakeAsync(Ct);
        await network.GiveVethAsync(guest.ProcessId, Ct);
        await guest.PythonAsync($"""
            for i in range(40):
                s = socket.socket(); s.setblocking(False); s.connect_ex(('{NetworkScene.Public}', 443))
            """);
        Assert.InRange((await network.ReadDropsAsync(Ct)).Rate, 20, 100);
        await guest.SendFramesAsync($"*[ether(ip('10.53.0.2', '{NetworkScene.Public}', 17, udp(443)))] * 5000");
        var drops = await network.ReadDropsAsync(Ct);
        Assert.InRange(drops.Udp, 1, 4900);
        Assert.True(drops.Rate > 100, drops.ToString());
    }

    [Fact]
    public async Task A_port_is_given_once_and_nothing_once_the_network_is_gone()
    {
        var listener = _network.Listen(NetworkPlan.ProxyPort);
        Assert.Throws<IOException>(() => _network.Listen(NetworkPlan.ProxyPort));
        using var dns = _network.BindDatagram(NetworkPlan.DnsPort);
        Assert.Throws<IOException>(() => _network.BindDatagram(NetworkPlan.DnsPort));

        var waiting = listener.AcceptAsync(Ct).AsTask();
        await _network.DisposeAsync();
        await Assert.ThrowsAnyAsync<Exception>(() => waiting);
        Assert.Throws<IOException>(() => _network.Listen(NetworkPlan.ProxyPort));
        await Assert.ThrowsAsync<IOException>(() => _network.OpenAsync([Endpoint(NetworkScene.Public, 443, Hour)], Ct));
        await Assert.ThrowsAsync<IOException>(() => _network.ReadDropsAsync(Ct));
        await _network.DisposeAsync();
    }

    [Fact]
    public async Task Sockets_of_this_process_that_are_made_elsewhere_stay_where_they_were()
    {
        using var listener = _network.Listen(NetworkPlan.ProxyPort);
        using var server = new TcpListener(IPAddress.Loopback, 0);
        server.Start();
        using var client = new TcpClient();
        await client.ConnectAsync((IPEndPoint)server.LocalEndpoint, Ct);
        Assert.True(client.Connected);
    }

    private static OpenEndpoint Endpoint(string address, int port, TimeSpan lifetime) => new(IPAddress.Parse(address), port, lifetime);

    private static async Task<string> ReceiveAsync(Socket socket)
    {
        var buffer = new byte[100];
        return Encoding.ASCII.GetString(buffer, 0, await socket.ReceiveAsync(buffer, Ct));
    }
}
