using System.Net.Security;
using System.Net.Sockets;
using Microsoft.AspNetCore.Http;
using Sandbox.Abstractions;
using Sandbox.Egress.Proxy;
using Xunit;

namespace Sandbox.Egress.Tests.Proxy;

/// <summary>Requests that two programs could read in two ways, by bytes.</summary>
public sealed class SmugglingTests
{
    private const string Host = "Host: " + ProxyRig.Name + "\r\n";
    private const string Inner = "GET /smuggled HTTP/1.1\r\n" + Host + "\r\n";

    public static TheoryData<string, string> Requests => new()
    {
        { "a length and chunks", "POST / HTTP/1.1\r\n" + Host + "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + Inner },
        { "chunks and a length", "POST / HTTP/1.1\r\n" + Host + "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n" + Inner },
        { "two lengths", "POST / HTTP/1.1\r\n" + Host + "Content-Length: 4\r\nContent-Length: 50\r\n\r\nbody" + Inner },
        { "two lengths in one", "POST / HTTP/1.1\r\n" + Host + "Content-Length: 4, 50\r\n\r\nbody" + Inner },
        { "a length below nothing", "POST / HTTP/1.1\r\n" + Host + "Content-Length: -1\r\n\r\n" + Inner },
        { "another coding", "POST / HTTP/1.1\r\n" + Host + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n" + Inner },
        { "a coding that is none", "POST / HTTP/1.1\r\n" + Host + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + Inner },
        { "chunked twice", "POST / HTTP/1.1\r\n" + Host + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + Inner },
        { "chunks in HTTP/1.0", "POST / HTTP/1.0\r\n" + Host + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + Inner },
        { "a space before the colon", "POST / HTTP/1.1\r\n" + Host + "Content-Length : 4\r\n\r\nbody" + Inner },
        { "a folded header", "GET / HTTP/1.1\r\n" + Host + "X-A: b\r\n c\r\n\r\n" + Inner },
        { "a folded header at first", "GET / HTTP/1.1\r\n X-A: b\r\n" + Host + "\r\n" + Inner },
        { "a bare line feed", "GET / HTTP/1.1\n" + Host + "\r\n" + Inner },
        { "a bare line feed after a header", "GET / HTTP/1.1\r\n" + Host + "X-A: b\nX-C: d\r\n\r\n" + Inner },
        { "a bare carriage return", "GET / HTTP/1.1\r\n" + Host + "X-A: b\rX-C: d\r\n\r\n" + Inner },
        { "a zero byte", "GET / HTTP/1.1\r\n" + Host + "X-A: b\0c\r\n\r\n" + Inner },
        { "a chunk's length that is none", "POST / HTTP/1.1\r\n" + Host + "Transfer-Encoding: chunked\r\n\r\n0x4\r\nbody\r\n0\r\n\r\n" + Inner },
        { "a chunk that ends early", "POST / HTTP/1.1\r\n" + Host + "Transfer-Encoding: chunked\r\n\r\n2\r\nbody\r\n0\r\n\r\n" + Inner },
        { "a chunk's length too long", "POST / HTTP/1.1\r\n" + Host + "Transfer-Encoding: chunked\r\n\r\nffffffffffffffff1\r\nbody\r\n0\r\n\r\n" + Inner },
        { "a chunk's extension with a bare line feed", "POST / HTTP/1.1\r\n" + Host + "Transfer-Encoding: chunked\r\n\r\n4;a\nbody\r\n0\r\n\r\n" + Inner },
        { "no host", "GET / HTTP/1.1\r\n\r\n" + Inner },
        { "no host in HTTP/1.0", "GET / HTTP/1.0\r\n\r\n" + Inner },
        { "two hosts", "GET / HTTP/1.1\r\n" + Host + "Host: evil.example\r\n\r\n" + Inner },
        { "the same host twice", "GET / HTTP/1.1\r\n" + Host + Host + "\r\n" + Inner },
        { "another host in the target", "GET https://evil.example/ HTTP/1.1\r\n" + Host + "\r\n" + Inner },
        { "another scheme in the target", "GET ftp://" + ProxyRig.Name + "/ HTTP/1.1\r\n" + Host + "\r\n" + Inner },
        { "a user in the host", "GET / HTTP/1.1\r\nHost: " + ProxyRig.Name + "@evil.example\r\n\r\n" + Inner },
        { "a tunnel", "CONNECT " + ProxyRig.Name + ":443 HTTP/1.1\r\n" + Host + "\r\n" + Inner },
        { "a tunnel elsewhere", "CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example:443\r\n\r\n" + Inner },
        { "the server as a whole", "OPTIONS * HTTP/1.1\r\n" + Host + "\r\n" + Inner },
        { "HTTP/2 in an upgrade", "GET / HTTP/1.1\r\n" + Host + "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n" + Inner },
        { "HTTP/2 without TLS's agreement", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" },
        { "a fragment in the target", "GET /a#b HTTP/1.1\r\n" + Host + "\r\n" + Inner },
        { "a backslash in the target", "GET /a\\b HTTP/1.1\r\n" + Host + "\r\n" + Inner },
        { "another version", "GET / HTTP/1.2\r\n" + Host + "\r\n" + Inner },
        { "no version", "GET /\r\n\r\n" + Inner },
        { "headers without end", "GET / HTTP/1.1\r\n" + Host + "X-A: " + new string('a', 70_000) + "\r\n\r\n" + Inner },
        { "too many headers", "GET / HTTP/1.1\r\n" + Host + string.Concat(Enumerable.Repeat("X-A: b\r\n", 101)) + "\r\n" + Inner },
        { "a target without end", "GET /" + new string('a', 20_000) + " HTTP/1.1\r\n" + Host + "\r\n" + Inner },
        { "another port", "GET / HTTP/1.1\r\nHost: " + ProxyRig.Name + ":8443\r\nConnection: close\r\n\r\n" },
        { "another host", "GET / HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n" },
    };

    [Theory]
    [MemberData(nameof(Requests))]
    public async Task Nothing_of_it_is_sent_on(string what, string request)
    {
        var seen = new System.Collections.Concurrent.ConcurrentQueue<string>();
        await using var web = await TestServers.WebAsync(
            http =>
            {
                seen.Enqueue(http.Request.Path);
                return http.Request.Body.CopyToAsync(Stream.Null);
            },
            TestServers.Certificate(ProxyRig.Name));
        await using var rig = await InterceptTests.StartAsync(web);
        await using var tls = await rig.ConnectTlsAsync(rig.Authority.Certificate, protocols: SslApplicationProtocol.Http11);

        var answer = await RawHttp.ExchangeAsync(tls, request);

        Assert.True(answer.Length == 0 || answer.StartsWith("HTTP/1.1 4", StringComparison.Ordinal) || answer.StartsWith("HTTP/1.1 505", StringComparison.Ordinal) || request.StartsWith("PRI", StringComparison.Ordinal), what + ": " + answer);
        Assert.DoesNotContain("HTTP/1.1 2", answer, StringComparison.Ordinal);

        Assert.NotEqual(EgressOutcome.Allowed, (await rig.Log.WaitAsync(_ => true)).Outcome);

        // The head of a request whose body breaks off later may have been sent on before.
        Assert.DoesNotContain("/smuggled", seen);
        Assert.True(seen.IsEmpty || what.StartsWith("a chunk", StringComparison.Ordinal), what);
    }

    [Theory]
    [InlineData("Transfer-Encoding: chunked\r\n\r\n4;ext=\"v\"\r\nbody\r\n0\r\n\r\n", "ext", "4\r\nbody\r\n0\r\n\r\n")]
    [InlineData("Transfer-Encoding: chunked\r\n\r\n0004\r\nbody\r\n0\r\nX-Trailer: a\r\n\r\n", "X-Trailer", "4\r\nbody\r\n0\r\n\r\n")]
    [InlineData("Content-Length: +4\r\n\r\nbody", "+4", "Content-Length: 4\r\n\r\nbody")]
    [InlineData("X-Mine:   a  \r\nContent-Length: 004\r\n\r\nbody", "004", "Content-Length: 4\r\n\r\nbody")]
    [InlineData("Connection: X-Mine\r\nX-Mine: a\r\nContent-Length: 4\r\n\r\nbody", "Mine", "Content-Length: 4\r\n\r\nbody")]
    public async Task What_is_accepted_is_framed_anew(string rest, string gone, string end)
    {
        var got = new TaskCompletionSource<string>();
        using var server = TestServers.Tcp(async socket =>
        {
            var buffer = new byte[10_000];
            var length = 0;
            var text = "";
            while (!text.EndsWith("body", StringComparison.Ordinal) && !text.EndsWith("0\r\n\r\n", StringComparison.Ordinal))
            {
                length += await socket.ReceiveAsync(buffer.AsMemory(length));
                text = System.Text.Encoding.Latin1.GetString(buffer, 0, length);
            }

            got.SetResult(text);
            await socket.SendAsync("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"u8.ToArray());
        });
        await using var rig = await ProxyRig.StartAsync(r => r.Decisions.Allowed.Add(ProxyRig.Name));
        rig.Route(ProxyRig.Address, 80, server.EndPoint);
        await using var stream = new NetworkStream(await rig.ConnectAsync(80), ownsSocket: true);

        await stream.WriteAsync(System.Text.Encoding.Latin1.GetBytes("POST /x HTTP/1.1\r\n" + Host + rest));

        var text = await got.Task.WaitAsync(TimeSpan.FromSeconds(10));
        Assert.DoesNotContain(gone, text, StringComparison.Ordinal);
        Assert.EndsWith(end, text, StringComparison.Ordinal);
    }

    [Fact]
    public async Task What_is_malformed_is_in_the_log_without_what_it_says()
    {
        await using var web = await TestServers.WebAsync(_ => Task.CompletedTask, TestServers.Certificate(ProxyRig.Name));
        await using var rig = await InterceptTests.StartAsync(web);
        await using var tls = await rig.ConnectTlsAsync(rig.Authority.Certificate, protocols: SslApplicationProtocol.Http11);

        await RawHttp.ExchangeAsync(tls, "GET / HTTP/1.1\r\n" + Host + "\r\nGET /private HTTP/9.9\r\n\r\n");

        var line = await rig.Log.WaitAsync(r => r.Outcome == EgressOutcome.Denied);
        Assert.Equal((EgressRecordKind.Request, 505, ProxyRig.Name), (line.Kind, line.Status, line.Host));
        Assert.DoesNotContain("9.9", line.Reason, StringComparison.Ordinal);
        Assert.Equal(2, rig.Log.Records.Count);
    }

    [Fact]
    public async Task A_request_head_is_not_waited_for_without_end()
    {
        await using var web = await TestServers.WebAsync(_ => Task.CompletedTask, TestServers.Certificate(ProxyRig.Name));
        await using var rig = await InterceptTests.StartAsync(web, options: new ProxyOptions { HeadTimeout = TimeSpan.FromSeconds(1) });
        await using var tls = await rig.ConnectTlsAsync(rig.Authority.Certificate);

        var answer = await RawHttp.ExchangeAsync(tls, "GET / HTTP/1.1\r\nHost: ");

        Assert.StartsWith("HTTP/1.1 408", answer, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(80)]
    [InlineData(8080)]
    public async Task HTTP_in_clear_is_judged_the_same(int port)
    {
        await using var web = await TestServers.WebAsync(http => http.Response.WriteAsync($"{http.Request.Host} {http.Request.Headers["X-Mine"]}"));
        await using var rig = await InterceptTests.StartAsync(web, r => r.Decisions.Requests = (_, _, path) => path == "/no" ? EgressAction.Deny : null, port);
        var host = port == 80 ? ProxyRig.Name : $"{ProxyRig.Name}:{port}";

        async Task<string> AskAsync(string head)
        {
            await using var stream = new NetworkStream(await rig.ConnectAsync(port), ownsSocket: true);
            return await RawHttp.ExchangeAsync(stream, head + "Connection: close\r\n\r\n");
        }

        Assert.Contains($"\r\n{host} yes\r\n", await AskAsync($"GET / HTTP/1.1\r\nHost: {host}\r\nX-Mine: yes\r\n"), StringComparison.Ordinal);
        Assert.Contains($"\r\n{host} \r\n", await AskAsync($"GET http://{host}/ HTTP/1.1\r\nHost: {host}\r\n"), StringComparison.Ordinal);
        Assert.StartsWith("HTTP/1.1 403", await AskAsync($"GET /no HTTP/1.1\r\nHost: {host}\r\n"), StringComparison.Ordinal);
        Assert.StartsWith("HTTP/1.1 403", await AskAsync("GET / HTTP/1.1\r\nHost: evil.example\r\n"), StringComparison.Ordinal);
        Assert.Contains("does not belong", (await rig.Log.WaitAsync(r => r.Host == "evil.example")).Reason);
        Assert.StartsWith("HTTP/1.1 421", await AskAsync("GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n"), StringComparison.Ordinal);
        Assert.StartsWith("HTTP/1.1 400", await AskAsync($"CONNECT {ProxyRig.Name}:443 HTTP/1.1\r\nHost: {ProxyRig.Name}:443\r\n"), StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_second_request_for_another_host_is_refused()
    {
        await using var web = await TestServers.WebAsync(http => http.Response.WriteAsync("ok"));
        await using var rig = await InterceptTests.StartAsync(
            web,
            r =>
            {
                r.Decisions.Intercepted.Add("b.example.com");
                r.Names.Pin("b.example.com", ProxyRig.Address);
            },
            80);
        await using var stream = new NetworkStream(await rig.ConnectAsync(80), ownsSocket: true);

        var answer = await RawHttp.ExchangeAsync(stream, "GET / HTTP/1.1\r\n" + Host + "\r\nGET / HTTP/1.1\r\nHost: b.example.com\r\nConnection: close\r\n\r\n");

        Assert.StartsWith("HTTP/1.1 200", answer, StringComparison.Ordinal);
        Assert.Contains("HTTP/1.1 421", answer, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Another_host_over_HTTP2_is_misdirected()
    {
        await using var web = await TestServers.WebAsync(http => http.Response.WriteAsync("ok"), TestServers.Certificate(ProxyRig.Name));
        await using var rig = await InterceptTests.StartAsync(web);
        using var client = rig.Client(new Version(2, 0));
        using var request = new HttpRequestMessage(HttpMethod.Get, $"https://{ProxyRig.Name}/") { Version = new Version(2, 0), VersionPolicy = HttpVersionPolicy.RequestVersionExact };
        Assert.Equal("ok", await client.GetStringAsync($"https://{ProxyRig.Name}/"));

        await using var tls = await rig.ConnectTlsAsync(rig.Authority.Certificate, protocols: SslApplicationProtocol.Http2);
        Assert.Equal(SslApplicationProtocol.Http2, tls.NegotiatedApplicationProtocol);
        await tls.WriteAsync(Http2Frames.Request("https", "evil.example", "/"));
        Assert.Equal("421", await Http2Frames.StatusAsync(tls));
        Assert.Equal(EgressOutcome.Denied, (await rig.Log.WaitAsync(r => r.Host == "evil.example")).Outcome);
    }
}
