using System.Net;
using System.Net.Sockets;
using System.Text;
using Sandbox.Abstractions;
using Sandbox.Egress.Proxy;
using Xunit;
using static Sandbox.Egress.Tests.Proxy.ClientHelloTests;

namespace Sandbox.Egress.Tests.Proxy;

/// <summary>Connections that go nowhere.</summary>
public sealed class RefusalTests
{
    private static readonly ProxyOptions Quick = new() { HeadTimeout = TimeSpan.FromMilliseconds(400), SilenceWindow = TimeSpan.FromMilliseconds(50) };

    [Fact]
    public async Task A_name_that_is_not_permitted_gets_an_alert()
    {
        await using var rig = await ProxyRig.StartAsync();

        var e = await Assert.ThrowsAnyAsync<Exception>(() => rig.ConnectTlsAsync(TestServers.Root.Certificate));

        Assert.Contains("access denied", e.ToString(), StringComparison.OrdinalIgnoreCase);
        Assert.Equal((EgressOutcome.Denied, "unmatched", ProxyRig.Name), await OutcomeAsync(rig));
        Assert.Empty(rig.Dialled);
    }

    [Fact]
    public async Task No_server_name_is_refused_unless_the_address_is_permitted()
    {
        using var server = TestServers.Tcp(async s => await s.SendAsync("ok"u8.ToArray()));
        await using var rig = await ProxyRig.StartAsync(r => r.Decisions.Allowed.Add(ProxyRig.Name));
        rig.Route(ProxyRig.Address, 443, server.EndPoint);

        Assert.Equal([0x15, 3, 3, 0, 2, 2, 112], await SendAsync(rig, Record(Message([]))));
        Assert.Contains("SNI", (await rig.Log.WaitAsync(r => r.Outcome == EgressOutcome.Denied)).Reason);

        rig.Decisions.Addresses.Add(ProxyRig.Address);
        Assert.Equal("ok"u8.ToArray(), await SendAsync(rig, Record(Message([]))));
    }

    [Fact]
    public async Task An_encrypted_ClientHello_is_refused()
    {
        await using var rig = await ProxyRig.StartAsync(r => r.Decisions.Allowed.Add(ProxyRig.Name));

        Assert.Equal([0x15, 3, 3, 0, 2, 2, 49], await SendAsync(rig, Record(Message([.. Extension(0, Name(ProxyRig.Name)), .. Extension(0xfe0d, [0])]))));

        Assert.Contains("ECH", (await rig.Log.WaitAsync(_ => true)).Reason);
        Assert.Empty(rig.Dialled);
    }

    [Fact]
    public async Task A_name_that_does_not_belong_to_the_address_is_refused_even_where_it_is_allowed()
    {
        await using var rig = await ProxyRig.StartAsync(r => r.Decisions.Allowed.UnionWith([ProxyRig.Name, "other.example.com"]));

        await Assert.ThrowsAnyAsync<Exception>(() => rig.ConnectTlsAsync(TestServers.Root.Certificate, "other.example.com"));

        Assert.Contains("does not belong", (await rig.Log.WaitAsync(_ => true)).Reason);
        Assert.Empty(rig.Dialled);
    }

    [Fact]
    public async Task A_name_that_is_denied_is_refused_even_where_the_address_is_allowed()
    {
        await using var rig = await ProxyRig.StartAsync(r =>
        {
            r.Decisions.Denied.Add("bad.example.com");
            r.Decisions.Addresses.Add(ProxyRig.Address);
        });

        await Assert.ThrowsAnyAsync<Exception>(() => rig.ConnectTlsAsync(TestServers.Root.Certificate, "bad.example.com"));

        Assert.Equal((EgressOutcome.Denied, "rule 9", "bad.example.com"), await OutcomeAsync(rig));
    }

    [Fact]
    public async Task What_is_not_TLS_is_refused_on_443()
    {
        await using var rig = await ProxyRig.StartAsync(r => r.Decisions.Allowed.Add(ProxyRig.Name));

        Assert.Empty(await SendAsync(rig, "SSH-2.0-hidden\r\n"u8.ToArray()));

        Assert.Contains("not TLS", (await rig.Log.WaitAsync(_ => true)).Reason);
        Assert.Empty(rig.Dialled);
    }

    [Fact]
    public async Task What_cannot_be_looked_into_is_refused_where_it_must_be()
    {
        await using var rig = await ProxyRig.StartAsync(r => r.Decisions.Intercepted.Add(ProxyRig.Name), Quick);

        Assert.Empty(await SendAsync(rig, "get / http/1.1\r\n\r\n"u8.ToArray(), 8080));

        Assert.Contains("neither TLS nor HTTP", (await rig.Log.WaitAsync(_ => true)).Reason);
        Assert.Empty(rig.Dialled);
    }

    [Fact]
    public async Task A_guest_that_is_slow_is_waited_for_where_it_must_begin()
    {
        using var server = TestServers.Tcp(async s =>
        {
            await s.ReceiveAsync(new byte[1000]);
            await s.SendAsync("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"u8.ToArray());
        });
        await using var rig = await ProxyRig.StartAsync(r => r.Decisions.Intercepted.Add(ProxyRig.Name), Quick with { HeadTimeout = TimeSpan.FromSeconds(10) });
        rig.Route(ProxyRig.Address, 8080, server.EndPoint);
        await using var stream = new NetworkStream(await rig.ConnectAsync(8080), ownsSocket: true);
        await Task.Delay(5 * Quick.SilenceWindow);

        Assert.EndsWith("ok", await RawHttp.ExchangeAsync(stream, $"GET / HTTP/1.1\r\nHost: {ProxyRig.Name}:8080\r\nConnection: close\r\n\r\n"), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(443)]
    [InlineData(80)]
    public async Task Silence_is_not_waited_for_without_end(int port)
    {
        await using var rig = await ProxyRig.StartAsync(r => r.Decisions.Allowed.Add(ProxyRig.Name), Quick);

        await SendAsync(rig, [], port);

        Assert.Equal(EgressOutcome.Denied, (await rig.Log.WaitAsync(_ => true)).Outcome);
        Assert.Empty(rig.Dialled);
    }

    [Fact]
    public async Task Half_a_ClientHello_is_not_waited_for_without_end()
    {
        await using var rig = await ProxyRig.StartAsync(r => r.Decisions.Allowed.Add(ProxyRig.Name), Quick);

        Assert.Equal([0x15, 3, 3, 0, 2, 2, 50], await SendAsync(rig, Record(Message(Extension(0, Name(ProxyRig.Name))))[..20]));

        Assert.Empty(rig.Dialled);
    }

    [Theory]
    [InlineData("169.254.169.254")]
    [InlineData("127.0.0.1")]
    [InlineData("10.53.0.1")]
    [InlineData("192.168.1.1")]
    [InlineData("100.100.100.200")]
    [InlineData("224.0.0.1")]
    [InlineData("0.0.0.0")]
    [InlineData("255.255.255.255")]
    public async Task An_address_that_is_not_public_is_refused_whatever_the_policy_says(string address)
    {
        var target = IPAddress.Parse(address);
        await using var rig = await ProxyRig.StartAsync(r =>
        {
            r.Decisions.Addresses.Add(target);
            r.Decisions.Source = new EgressPolicy { Mode = EgressMode.DryRun };
        });

        using var socket = await rig.ConnectAsync(target, 80);

        Assert.Equal(0, await RawHttp.ReadOrResetAsync(socket));
        Assert.Equal((EgressOutcome.Denied, "built-in", (string?)null), await OutcomeAsync(rig));
        Assert.Empty(rig.Dialled);
        var dialer = new UpstreamDialer(new ProxyOptions());
        await Assert.ThrowsAsync<UnreachableAddressException>(async () => await dialer.ConnectAsync(new IPEndPoint(target, 80), default));
        await Assert.ThrowsAsync<UnreachableAddressException>(async () => await dialer.ConnectAsync(new IPEndPoint(target.MapToIPv6(), 80), default));
    }

    [Fact]
    public async Task IPv6_is_refused_at_the_dialer() =>
        await Assert.ThrowsAsync<UnreachableAddressException>(async () => await new UpstreamDialer(new ProxyOptions()).ConnectAsync(new IPEndPoint(IPAddress.Parse("2606:4700::1111"), 443), default));

    [Fact]
    public async Task A_policy_that_is_tried_out_lets_connections_pass_and_says_so()
    {
        using var server = TestServers.TlsEcho(TestServers.Certificate(ProxyRig.Name));
        await using var rig = await ProxyRig.StartAsync(r => r.Decisions.Source = new EgressPolicy { Mode = EgressMode.DryRun });
        rig.Route(ProxyRig.Address, 443, server.EndPoint);

        await using (await rig.ConnectTlsAsync(TestServers.Root.Certificate))
        {
        }

        Assert.Equal((EgressOutcome.WouldDeny, "unmatched", ProxyRig.Name), await OutcomeAsync(rig));
    }

    [Fact]
    public async Task A_server_that_does_not_answer_is_in_the_log()
    {
        await using var rig = await ProxyRig.StartAsync(r => r.Decisions.Allowed.Add(ProxyRig.Name));

        await Assert.ThrowsAnyAsync<Exception>(() => rig.ConnectTlsAsync(TestServers.Root.Certificate));

        Assert.Equal((EgressOutcome.Failed, "rule 1", ProxyRig.Name), await OutcomeAsync(rig));
    }

    private static async Task<(EgressOutcome, string?, string?)> OutcomeAsync(ProxyRig rig)
    {
        var line = await rig.Log.WaitAsync(_ => true);
        return (line.Outcome, line.By, line.Host);
    }

    private static async Task<byte[]> SendAsync(ProxyRig rig, byte[] bytes, int port = 443)
    {
        await using var stream = new NetworkStream(await rig.ConnectAsync(port), ownsSocket: true);
        return Encoding.Latin1.GetBytes(await RawHttp.ExchangeAsync(stream, Encoding.Latin1.GetString(bytes)));
    }
}
