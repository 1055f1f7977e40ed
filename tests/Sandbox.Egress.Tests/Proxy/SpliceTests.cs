using System.Net.Sockets;
using System.Text;
using Sandbox.Abstractions;
using Sandbox.Egress.Proxy;
using Xunit;

namespace Sandbox.Egress.Tests.Proxy;

/// <summary>Connections that pass without being looked into.</summary>
public sealed class SpliceTests
{
    [Fact]
    public async Task A_name_that_is_allowed_passes_with_its_own_certificate()
    {
        using var server = TestServers.TlsEcho(TestServers.Certificate(ProxyRig.Name));
        await using var rig = await ProxyRig.StartAsync(r => r.Decisions.Allowed.Add(ProxyRig.Name));
        rig.Route(ProxyRig.Address, 443, server.EndPoint);

        await using (var tls = await rig.ConnectTlsAsync(TestServers.Root.Certificate))
        {
            await tls.WriteAsync("hello"u8.ToArray());
            var answer = new byte[5];
            await tls.ReadExactlyAsync(answer);

            Assert.Equal("hello", Encoding.ASCII.GetString(answer));
        }

        var line = await rig.Log.WaitAsync(r => r.Kind == EgressRecordKind.Connection);
        Assert.Equal((EgressOutcome.Allowed, ProxyRig.Name, "rule 1", 443), (line.Outcome, line.Host, line.By, line.Port));
        Assert.True(line.BytesUp > 100 && line.BytesDown > 100);
    }

    [Fact]
    public async Task Each_direction_ends_by_itself()
    {
        using var server = TestServers.Tcp(async socket =>
        {
            var all = new MemoryStream();
            await using var stream = new NetworkStream(socket);
            await stream.CopyToAsync(all);
            await stream.WriteAsync(all.ToArray());
        });
        await using var rig = await ProxyRig.StartAsync(r => r.Decisions.Addresses.Add(ProxyRig.Address));
        rig.Route(ProxyRig.Address, 9000, server.EndPoint);

        using var socket = await rig.ConnectAsync(9000);
        var sent = new byte[3_000_000];
        Random.Shared.NextBytes(sent);
        await using var stream = new NetworkStream(socket);
        await stream.WriteAsync(sent);
        socket.Shutdown(SocketShutdown.Send);
        var got = new MemoryStream();
        await stream.CopyToAsync(got);

        Assert.Equal(sent, got.ToArray());
        var line = await rig.Log.WaitAsync(_ => true);
        Assert.Equal((3_000_000, 3_000_000), (line.BytesUp, line.BytesDown));
    }

    [Fact]
    public async Task A_server_that_speaks_first_is_heard()
    {
        using var server = TestServers.Tcp(async socket =>
        {
            await socket.SendAsync("SSH-2.0-test\r\n"u8.ToArray());
            await socket.ReceiveAsync(new byte[10]);
        });
        await using var rig = await ProxyRig.StartAsync(r => r.Decisions.Allowed.Add(ProxyRig.Name));
        rig.Route(ProxyRig.Address, 22, server.EndPoint);

        using var socket = await rig.ConnectAsync(22);
        using var reader = new StreamReader(new NetworkStream(socket));

        Assert.Equal("SSH-2.0-test", await reader.ReadLineAsync());
    }

    [Fact]
    public async Task A_reset_is_passed_on_as_one()
    {
        using var server = TestServers.Tcp(async socket =>
        {
            await socket.ReceiveAsync(new byte[10]);
            socket.LingerState = new LingerOption(true, 0);
        });
        await using var rig = await ProxyRig.StartAsync(r => r.Decisions.Addresses.Add(ProxyRig.Address));
        rig.Route(ProxyRig.Address, 9000, server.EndPoint);

        using var socket = await rig.ConnectAsync(9000);
        await socket.SendAsync("x"u8.ToArray());
        var e = await Assert.ThrowsAsync<SocketException>(async () => await socket.ReceiveAsync(new byte[1]));

        Assert.Equal(SocketError.ConnectionReset, e.SocketErrorCode);
    }

    [Fact]
    public async Task A_change_of_policy_ends_only_what_is_permitted_no_more()
    {
        using var server = TestServers.TlsEcho(TestServers.Certificate("*.example.com"));
        await using var rig = await ProxyRig.StartAsync(r =>
        {
            r.Decisions.Allowed.UnionWith(["a.example.com", "b.example.com", "c.example.com"]);
            r.Names.Pin("a.example.com", ProxyRig.Address);
            r.Names.Pin("b.example.com", ProxyRig.Address);
            r.Names.Pin("c.example.com", ProxyRig.Address);
        });
        rig.Route(ProxyRig.Address, 443, server.EndPoint);
        await using var kept = await rig.ConnectTlsAsync(TestServers.Root.Certificate, "a.example.com");
        await using var denied = await rig.ConnectTlsAsync(TestServers.Root.Certificate, "b.example.com");
        await using var watched = await rig.ConnectTlsAsync(TestServers.Root.Certificate, "c.example.com");

        var after = new FakeDecisions();
        after.Allowed.Add("a.example.com");
        after.Intercepted.Add("c.example.com");
        await rig.Proxy.UpdateAsync(rig.Context with { Decisions = after });

        await kept.WriteAsync("x"u8.ToArray());
        Assert.Equal(1, await kept.ReadAsync(new byte[1]));
        await Assert.ThrowsAnyAsync<IOException>(async () => await denied.ReadExactlyAsync(new byte[1]));
        await Assert.ThrowsAnyAsync<IOException>(async () => await watched.ReadExactlyAsync(new byte[1]));
        Assert.Equal(1, rig.Proxy.OpenConnections);
        Assert.Equal(EgressOutcome.Denied, (await rig.Log.WaitAsync(r => r.Host == "b.example.com")).Outcome);
    }

    [Fact]
    public async Task Disposing_of_the_proxy_ends_all()
    {
        using var server = TestServers.TlsEcho(TestServers.Certificate(ProxyRig.Name));
        await using var rig = await ProxyRig.StartAsync(r => r.Decisions.Allowed.Add(ProxyRig.Name));
        rig.Route(ProxyRig.Address, 443, server.EndPoint);
        await using var tls = await rig.ConnectTlsAsync(TestServers.Root.Certificate);

        await rig.Proxy.DisposeAsync();

        Assert.Equal(0, rig.Proxy.OpenConnections);
        await Assert.ThrowsAnyAsync<IOException>(async () => await tls.ReadExactlyAsync(new byte[1]));
    }

    [Fact]
    public async Task What_moves_too_little_is_ended()
    {
        using var server = TestServers.TlsEcho(TestServers.Certificate(ProxyRig.Name));
        await using var rig = await ProxyRig.StartAsync(r => r.Decisions.Allowed.Add(ProxyRig.Name), new ProxyOptions { IdleLimit = TimeSpan.FromMilliseconds(300) });
        rig.Route(ProxyRig.Address, 443, server.EndPoint);
        await using var tls = await rig.ConnectTlsAsync(TestServers.Root.Certificate);

        await Assert.ThrowsAnyAsync<IOException>(async () => await tls.ReadExactlyAsync(new byte[1]));

        Assert.Equal(EgressOutcome.Allowed, (await rig.Log.WaitAsync(_ => true)).Outcome);
    }

    [Fact]
    public async Task No_more_connections_than_the_limit_at_a_time()
    {
        using var server = TestServers.TlsEcho(TestServers.Certificate(ProxyRig.Name));
        await using var rig = await ProxyRig.StartAsync(r =>
        {
            r.Decisions.Allowed.Add(ProxyRig.Name);
            r.Decisions.Source = new EgressPolicy { Limits = new EgressLimits { Connections = 2 } };
        });
        rig.Route(ProxyRig.Address, 443, server.EndPoint);
        await using var one = await rig.ConnectTlsAsync(TestServers.Root.Certificate);
        await using var two = await rig.ConnectTlsAsync(TestServers.Root.Certificate);

        await Assert.ThrowsAnyAsync<Exception>(() => rig.ConnectTlsAsync(TestServers.Root.Certificate));

        Assert.Equal("limits", (await rig.Log.WaitAsync(r => r.Outcome == EgressOutcome.Denied)).By);
    }

    [Fact]
    public async Task No_more_connections_than_the_limit_in_a_second()
    {
        var time = new Microsoft.Extensions.Time.Testing.FakeTimeProvider();
        await using var rig = await ProxyRig.StartAsync(
            r => r.Decisions.Source = new EgressPolicy { Limits = new EgressLimits { ConnectionsPerSecond = 2 } },
            time: time);
        await KnockAsync(rig, 5);

        await rig.Log.WaitAsync(r => r.By == "limits");
        Assert.Single(rig.Log.Records, r => r.By == "limits");
        time.Advance(TimeSpan.FromSeconds(1));
        await KnockAsync(rig, 3);
        for (var i = 0; i < 500 && rig.Log.Records.Count(r => r.By == "limits") < 2; i++)
        {
            await Task.Delay(10);
        }

        Assert.Equal(2, rig.Log.Records.Count(r => r.By == "limits"));
    }

    [Fact]
    public async Task Bytes_in_a_second_are_held_to_the_limit()
    {
        using var server = TestServers.Tcp(async socket => await socket.SendAsync(new byte[300_000]));
        await using var rig = await ProxyRig.StartAsync(r =>
        {
            r.Decisions.Addresses.Add(ProxyRig.Address);
            r.Decisions.Source = new EgressPolicy { Limits = new EgressLimits { BytesPerSecond = 200_000 } };
        });
        rig.Route(ProxyRig.Address, 9000, server.EndPoint);
        var watch = System.Diagnostics.Stopwatch.StartNew();

        using var socket = await rig.ConnectAsync(9000);
        var got = new MemoryStream();
        await new NetworkStream(socket).CopyToAsync(got);

        Assert.Equal(300_000, got.Length);
        Assert.True(watch.Elapsed > TimeSpan.FromSeconds(1.2), $"{watch.Elapsed}");
    }

    private static async Task KnockAsync(ProxyRig rig, int times)
    {
        for (var i = 0; i < times; i++)
        {
            try
            {
                (await rig.ConnectAsync(9000)).Dispose();
            }
            catch (SocketException)
            {
                // Refused before we had seen it taken.
            }
        }
    }
}
