using System.Buffers.Binary;
using System.Net;
using System.Net.Sockets;
using CsCheck;
using DnsClient;
using Sandbox.Abstractions;
using Sandbox.Egress.Dns;
using Xunit;

namespace Sandbox.Egress.Tests.Dns;

public sealed class DnsSocketTests
{
    private static readonly EgressPolicy Pip = new() { Presets = ["pip"], Limits = new EgressLimits { DnsQueriesPerSecond = 1000 } };

    [Fact]
    public async Task A_real_client_gets_answers_over_udp_and_tcp()
    {
        await using var dns = new DnsFixture(Pip).Has("pypi.org", 60, "151.101.0.223");
        var server = Serve(dns);
        foreach (var tcpOnly in new[] { false, true })
        {
            var client = new LookupClient(new LookupClientOptions(server) { UseTcpOnly = tcpOnly, UseCache = false });

            Assert.Equal("151.101.0.223", Assert.Single((await client.QueryAsync("pypi.org", QueryType.A)).Answers.ARecords()).Address.ToString());
            Assert.Empty((await client.QueryAsync("pypi.org", QueryType.AAAA)).Answers);
            Assert.Equal(DnsHeaderResponseCode.NotExistentDomain, (await client.QueryAsync("evil.example", QueryType.A)).Header.ResponseCode);
        }
    }

    [Fact]
    public async Task Our_own_resolver_takes_the_answers_of_a_real_server()
    {
        await using var dns = new DnsFixture(Pip).Has("pypi.org", 60, "151.101.0.223");
        var resolver = new DnsClientResolver([Serve(dns)]);

        var answer = await resolver.ResolveAsync("pypi.org", CancellationToken.None);

        Assert.Equal((UpstreamStatus.Found, "151.101.0.223", 60), (answer.Status, Assert.Single(answer.Addresses).ToString(), (int)answer.Ttl.TotalSeconds));
        Assert.Equal(UpstreamStatus.NoSuchName, (await resolver.ResolveAsync("evil.example", CancellationToken.None)).Status);
    }

    [Fact]
    public async Task Aliases_are_followed_and_records_of_other_names_are_not_taken()
    {
        using var server = new Socket(AddressFamily.InterNetwork, SocketType.Dgram, ProtocolType.Udp);
        server.Bind(new IPEndPoint(IPAddress.Loopback, 0));
        var resolver = new DnsClientResolver([(IPEndPoint)server.LocalEndPoint!]);
        var resolving = resolver.ResolveAsync("www.example.org", CancellationToken.None);
        var buffer = new byte[512];
        var asked = await server.ReceiveFromAsync(buffer, SocketFlags.None, new IPEndPoint(IPAddress.Any, 0));
        var question = buffer[12..(12 + 17 + 4)];
        byte[] answer =
        [
            buffer[0], buffer[1], 0x81, 0x80, 0, 1, 0, 4, 0, 0, 0, 0, .. question,
            .. Record("evil.example", 1, 60, [6, 6, 6, 6]),
            .. Record("www.example.org", 5, 30, Name("edge.cdn.example")),
            .. Record("Edge.CDN.example", 1, 60, [93, 184, 216, 34]),
            .. Record("edge.cdn.example", 1, 90, [93, 184, 216, 35]),
        ];
        await server.SendToAsync(answer, asked.RemoteEndPoint);

        var result = await resolving;

        Assert.Equal(["93.184.216.34", "93.184.216.35"], result.Addresses.Select(a => a.ToString()));
        Assert.Equal(TimeSpan.FromSeconds(30), result.Ttl);

        static byte[] Name(string name) => [.. name.Split('.').SelectMany(l => (byte[])[(byte)l.Length, .. System.Text.Encoding.ASCII.GetBytes(l)]), 0];
        static byte[] Record(string name, byte type, byte ttl, byte[] data) => [.. Name(name), 0, type, 0, 1, 0, 0, 0, ttl, 0, (byte)data.Length, .. data];
    }

    [Fact]
    public async Task A_resolver_whose_server_is_gone_says_that_it_failed()
    {
        using var silent = new Socket(AddressFamily.InterNetwork, SocketType.Dgram, ProtocolType.Udp);
        silent.Bind(new IPEndPoint(IPAddress.Loopback, 0));
        var resolver = new DnsClientResolver([(IPEndPoint)silent.LocalEndPoint!], TimeSpan.FromMilliseconds(50));

        Assert.Equal(UpstreamStatus.Failed, (await resolver.ResolveAsync("pypi.org", CancellationToken.None)).Status);
    }

    [Fact]
    public async Task Junk_does_not_end_the_server()
    {
        await using var dns = new DnsFixture(Pip).Has("pypi.org", 60, "151.101.0.223");
        var server = Serve(dns);
        using var socket = new Socket(AddressFamily.InterNetwork, SocketType.Dgram, ProtocolType.Udp);
        var random = new Random(7);
        for (var i = 0; i < 200; i++)
        {
            var junk = new byte[random.Next(0, 100)];
            random.NextBytes(junk);
            await socket.SendToAsync(junk, server);
        }

        using (var half = new TcpClient())
        {
            await half.ConnectAsync(server.Address, server.Port);
            await half.GetStream().WriteAsync(new byte[] { 0xff, 0xff, 1 });
        }

        var client = new LookupClient(new LookupClientOptions(server) { UseCache = false, Retries = 5 });
        Assert.Single((await client.QueryAsync("pypi.org", QueryType.A)).Answers);
    }

    [Fact]
    public async Task One_connection_carries_many_questions()
    {
        await using var dns = new DnsFixture(Pip).Has("pypi.org", 60, "151.101.0.223");
        using var client = new TcpClient();
        var server = Serve(dns);
        await client.ConnectAsync(server.Address, server.Port);
        var stream = client.GetStream();
        for (ushort i = 1; i <= 5; i++)
        {
            var query = DnsFixture.Query("pypi.org", id: i);
            await stream.WriteAsync(new byte[] { 0, (byte)query.Length });
            await stream.WriteAsync(query);
            var length = new byte[2];
            await stream.ReadExactlyAsync(length);
            var reply = new byte[BinaryPrimitives.ReadUInt16BigEndian(length)];
            await stream.ReadExactlyAsync(reply);
            Assert.Equal(i, new Reply(reply).Id);
        }
    }

    [Fact]
    public void Any_bytes_are_a_query_an_error_or_nothing() =>
        (from valid in Gen.Bool
         from junk in Gen.Byte.Array[0, 80]
         from at in Gen.Int[0, 60]
         select (valid, junk, at)).Sample(x =>
         {
             var message = DnsFixture.Query("files.pythonhosted.org", edns: true);
             if (!x.valid)
             {
                 message = x.junk;
             }
             else
             {
                 x.junk.AsSpan(0, Math.Min(x.junk.Length, Math.Max(0, message.Length - x.at))).CopyTo(message.AsSpan(Math.Min(x.at, message.Length)));
             }

             var query = DnsQuery.Read(message);
             if (query is not null)
             {
                 var reply = DnsReply.Write(query, query.Error, [IPAddress.Loopback], 60, 512, "why");
                 Assert.InRange(reply.Length, 12, 512);
             }
         });

    [Theory]
    [InlineData("1234 0100 0001 0000 0000 0000 c00c 0001 0001", 1)] // a name that points at itself
    [InlineData("1234 0100 0001 0000 0000 0000 0361", 1)] // cut
    [InlineData("1234 0100 0002 0000 0000 0000 0161 00 0001 0001", 1)] // two questions
    [InlineData("1234 0100 0000 0000 0000 0000", 1)] // none
    [InlineData("1234 0100 0001 0001 0000 0000 0161 00 0001 0001", 1)] // an answer in it
    [InlineData("1234 2800 0001 0000 0000 0000 0161 00 0006 0001", 4)] // an update
    [InlineData("1234 0100 0001 0000 0000 0001 0161 00 0001 0001 00 0029 1000 0001 0000 0000", 16)] // a version of EDNS that does not exist
    [InlineData("1234 0100 0001 0000 0000 0001 0161 00 0001 0001 00 0029 1000 0000 0000 00ff", 1)] // options longer than the message
    public void Malformed_queries_are_told_so(string hex, int code) =>
        Assert.Equal((DnsCode)code, DnsQuery.Read(Convert.FromHexString(hex.Replace(" ", "", StringComparison.Ordinal)))!.Error);

    [Fact]
    public void Answers_are_never_answered() => Assert.Null(DnsQuery.Read(Convert.FromHexString("123481000001000000000000016100" + "00010001")));

    private static IPEndPoint Serve(DnsFixture dns)
    {
        var udp = new Socket(AddressFamily.InterNetwork, SocketType.Dgram, ProtocolType.Udp);
        var tcp = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        for (var tries = 0; ; tries++)
        {
            tcp.Bind(new IPEndPoint(IPAddress.Loopback, 0));
            try
            {
                udp.Bind(tcp.LocalEndPoint!);
                break;
            }
            catch (SocketException) when (tries < 10)
            {
                // Somebody has that port for UDP.
                tcp.Dispose();
                tcp = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
            }
        }

        tcp.Listen();
        dns.Dns.Serve(udp, tcp);
        return (IPEndPoint)udp.LocalEndPoint!;
    }
}
