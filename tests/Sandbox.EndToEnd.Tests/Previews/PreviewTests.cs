using System.Net;
using System.Net.ServerSentEvents;
using System.Net.WebSockets;
using System.Text;
using System.Text.Json.Nodes;
using Sandbox.EndToEnd.Tests.Harness;
using Xunit;
using static Sandbox.EndToEnd.Tests.Harness.SandboxApi;

namespace Sandbox.EndToEnd.Tests.Previews;

/// <summary>Programs that listen in a real guest, reached as an outside caller reaches them.</summary>
[Collection(ServerGroup.Name)]
public sealed class PreviewTests(ServerFixture fixture)
{
    /// <summary>RFC 6455, as little as an echo of short text messages needs. It says first which address was asked for, and what of ours came with it.</summary>
    private const string Echo = """
        import base64, hashlib, socket, threading
        def serve(c):
            head = b''
            while b'\r\n\r\n' not in head:
                head += c.recv(4096)
            lines = head.decode().split('\r\n')
            headers = {l.split(':', 1)[0].lower(): l.split(':', 1)[1].strip() for l in lines[1:] if ':' in l}
            accept = base64.b64encode(hashlib.sha1((headers['sec-websocket-key'] + '258EAFA5-E914-47DA-95CA-C5AB0DC85B11').encode()).digest()).decode()
            c.sendall(('HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ' + accept + '\r\n\r\n').encode())
            def send(op, data):
                c.sendall(bytes([0x80 | op, len(data)]) + data)
            def need(n):
                data = b''
                while len(data) < n:
                    got = c.recv(n - len(data))
                    if not got:
                        raise SystemExit
                    data += got
                return data
            send(1, (lines[0].split(' ')[1] + ' ' + headers['host'] + ' ' + str('x-sandbox-token' in headers)).encode())
            while True:
                op, length = need(2)
                mask = need(4)
                data = bytes(b ^ mask[i % 4] for i, b in enumerate(need(length & 127)))
                send(op & 15, data)
                if op & 15 == 8:
                    c.close()
                    return
        s = socket.create_server(('127.0.0.1', 9001))
        while True:
            threading.Thread(target=serve, args=(s.accept()[0],), daemon=True).start()
        """;

    [Fact]
    public async Task A_web_server_and_a_WebSocket_in_a_guest_are_reached_and_survive_a_pause()
    {
        var (api, http) = (fixture.Api, fixture.Server.Http);
        var session = Text(await api.CreateSessionAsync(), "id");
        var big = new byte[3_000_000];
        Random.Shared.NextBytes(big);
        await api.UploadAsync(session, "www/big.bin", big);
        await api.UploadAsync(session, "www/index.html", "<h1>hello</h1>"u8.ToArray());
        await api.UploadAsync(session, "echo.py", Encoding.UTF8.GetBytes(Echo));
        await api.StartShellAsync(session, "python3 -m http.server 8000 --bind 127.0.0.1 --directory www & exec python3 echo.py");
        var ports = $"/v1/sessions/{session}/ports";

        // Nobody listens yet, maybe: said clearly, until somebody does.
        Assert.Equal(HttpStatusCode.BadGateway, await StatusAsync(http, $"{ports}/1/"));
        await UntilAsync(async () => await StatusAsync(http, $"{ports}/8000/") == HttpStatusCode.OK);
        using (var page = await http.GetAsync(new Uri($"{ports}/8000/?q=1", UriKind.Relative)))
        {
            Assert.Equal("<h1>hello</h1>", await page.Content.ReadAsStringAsync());
            Assert.Contains("sandbox", string.Join(' ', page.Headers.GetValues("Content-Security-Policy")), StringComparison.Ordinal);
            Assert.DoesNotContain("allow-same-origin", string.Join(' ', page.Headers.GetValues("Content-Security-Policy")), StringComparison.Ordinal);
        }

        var downloads = await Task.WhenAll(Enumerable.Range(0, 8).Select(_ => http.GetByteArrayAsync(new Uri($"{ports}/8000/big.bin", UriKind.Relative))));
        Assert.All(downloads, d => Assert.True(d.AsSpan().SequenceEqual(big)));
        Assert.Equal(HttpStatusCode.NotFound, await StatusAsync(http, $"{ports}/8000/missing"));

        // By a token, a WebSocket: the token itself does not reach the guest.
        var issued = await api.PostAsync($"{ports}/9001/token", new { ttlSeconds = 600 });
        var token = Text(issued, "token");
        await UntilAsync(async () => await StatusAsync(http, $"{ports}/9001/") != HttpStatusCode.BadGateway || await ListensAsync(api, session));
        var url = new Uri(fixture.Server.Url.ToString().Replace("http", "ws", StringComparison.Ordinal).TrimEnd('/') + $"{ports}/9001/chat?a=b&sandbox_token={token}");
        using (var socket = new ClientWebSocket())
        {
            await socket.ConnectAsync(url, CancellationToken.None);
            Assert.Equal("/chat?a=b localhost:9001 False", await ReceiveAsync(socket));
            foreach (var word in (string[])["one", "two"])
            {
                await socket.SendAsync(Encoding.UTF8.GetBytes(word), WebSocketMessageType.Text, true, CancellationToken.None);
                Assert.Equal(word, await ReceiveAsync(socket));
            }

            // Paused, it is cut; a request that may not wake is refused and changes nothing.
            await api.PostAsync($"/v1/sessions/{session}/pause");
            await Assert.ThrowsAnyAsync<WebSocketException>(() => ReceiveAsync(socket));
        }

        Assert.Equal(HttpStatusCode.Conflict, await StatusAsync(http, $"{ports}/8000/?wake=false"));
        Assert.Equal("paused", Text(await api.GetAsync($"/v1/sessions/{session}"), "state"));

        // The next request wakes it, and the programs are still there; so is the token good.
        Assert.Equal("<h1>hello</h1>", await http.GetStringAsync(new Uri($"{ports}/8000/", UriKind.Relative)));
        using (var socket = new ClientWebSocket())
        {
            await socket.ConnectAsync(url, CancellationToken.None);
            Assert.StartsWith("/chat?a=b", await ReceiveAsync(socket), StringComparison.Ordinal);
        }

        await api.DeleteSessionAsync(session);
        Assert.Equal(HttpStatusCode.Conflict, await StatusAsync(http, $"{ports}/8000/"));
    }

    [Fact]
    public async Task A_directory_is_watched_and_a_file_keeps_its_labels()
    {
        var (api, http) = (fixture.Api, fixture.Server.Http);
        var session = Text(await api.CreateSessionAsync(), "id");
        using var upload = new HttpRequestMessage(HttpMethod.Put, $"/v1/sessions/{session}/files/content?path=in/a.txt") { Content = new StringContent("x") };
        upload.Headers.Add("X-Metadata-Purpose", "a test");
        Assert.Equal("a test", (await api.SendAsync(upload, HttpStatusCode.OK))["metadata"]!["purpose"]!.ToString());
        Assert.Equal("a test", (await api.GetAsync($"/v1/sessions/{session}/files?path=in"))["entries"]![0]!["metadata"]!["purpose"]!.ToString());

        using var request = new HttpRequestMessage(HttpMethod.Get, $"/v1/sessions/{session}/files/watch?path=in&recursive=true");
        using var answer = await http.SendAsync(request, HttpCompletionOption.ResponseHeadersRead);
        Assert.Equal(HttpStatusCode.OK, answer.StatusCode);
        await using var events = SseParser.Create(await answer.Content.ReadAsStreamAsync()).EnumerateAsync().GetAsyncEnumerator();
        Assert.True(await events.MoveNextAsync());
        Assert.Equal("ready", events.Current.EventType);
        await api.ShellAsync(session, "mkdir -p in/new && echo hi > in/new/b.txt");
        await UntilAsync(async () => await events.MoveNextAsync() && events.Current.EventType == "change"
            && JsonNode.Parse(events.Current.Data) is { } change && change["path"]!.ToString() == "/home/user/in/new/b.txt");
        await api.ShellAsync(session, "rm -r in");
        await UntilAsync(async () => await events.MoveNextAsync() && events.Current.EventType == "closed");
        await api.DeleteSessionAsync(session);
    }

    private static async Task<HttpStatusCode> StatusAsync(HttpClient http, string path)
    {
        using var answer = await http.GetAsync(new Uri(path, UriKind.Relative));
        return answer.StatusCode;
    }

    private static async Task<bool> ListensAsync(SandboxApi api, string session) =>
        (await api.ShellAsync(session, "grep -q ':2329 ' /proc/net/tcp")).ExitCode == 0;

    private static async Task<string> ReceiveAsync(ClientWebSocket socket)
    {
        var buffer = new byte[256];
        using var patience = new CancellationTokenSource(TimeSpan.FromSeconds(60));
        var got = await socket.ReceiveAsync(buffer, patience.Token);
        return Encoding.UTF8.GetString(buffer, 0, got.Count);
    }

    private static async Task UntilAsync(Func<Task<bool>> condition)
    {
        for (var until = DateTime.UtcNow + TimeSpan.FromSeconds(60); !await condition();)
        {
            Assert.True(DateTime.UtcNow < until, "What must come did not come.");
            await Task.Delay(100);
        }
    }
}
