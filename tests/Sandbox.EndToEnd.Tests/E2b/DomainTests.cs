using System.Net;
using System.Net.Http.Json;
using System.Net.WebSockets;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json.Nodes;
using Sandbox.EndToEnd.Tests.Harness;
using Xunit;
using static Sandbox.EndToEnd.Tests.Harness.SandboxApi;

namespace Sandbox.EndToEnd.Tests.E2b;

/// <summary>Sandboxes by host name, <c>{port}-{id}.domain</c>: signed addresses of files, and what a program in the sandbox serves. Without the SDK, as a browser or curl comes.</summary>
public sealed class DomainTests
{
    private const string Domain = "sandbox.test";

    /// <summary>A WebSocket server that says everything back, in what every Python has.</summary>
    private const string Program = """
        import base64, hashlib, socket
        s = socket.create_server(("127.0.0.1", 8000))
        print("listening", flush=True)
        while True:
            c, _ = s.accept()
            head = b""
            while b"\r\n\r\n" not in head: head += c.recv(4096)
            lines = dict(l.split(": ", 1) for l in head.decode().split("\r\n")[1:] if ": " in l)
            key = {k.lower(): v for k, v in lines.items()}.get("sec-websocket-key")
            if key is None:
                body = head
                c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(body) + body)
            else:
                accept = base64.b64encode(hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest())
                c.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " + accept + b"\r\n\r\n")
                f = c.recv(4096)
                n, mask = f[1] & 127, f[2:6]
                c.sendall(bytes([0x81, n]) + bytes(b ^ mask[i % 4] for i, b in enumerate(f[6:6 + n])))
            c.close()
        """;

    [Fact]
    public async Task Host_names_lead_to_files_by_signed_address_and_to_what_a_program_serves()
    {
        var config = Path.GetTempFileName();
        await File.WriteAllTextAsync(config, $$"""{"e2bDomain": "{{Domain}}"}""");
        await using var server = await SandboxServer.StartAsync(null, "--warm-pool", "0", "--config", config);
        File.Delete(config);
        var made = await CreateAsync(server, "{\"templateID\": \"base\", \"timeout\": 300, \"autoPause\": true, \"autoResume\": {\"enabled\": true}}");
        var (id, envd, traffic) = (Text(made, "sandboxID"), Text(made, "envdAccessToken"), Text(made, "trafficAccessToken"));
        Assert.Equal(Domain, Text(made, "domain"));

        // Up and down by signature alone; another path, operation or time does not fit.
        var until = DateTimeOffset.UtcNow.AddMinutes(1).ToUnixTimeSeconds();
        var signed = $"/files?path=/tmp/a%20b&signature={Sign("/tmp/a b", "write", envd, until)}&signature_expiration={until}";
        using (var file = new MultipartFormDataContent { { new ByteArrayContent("signed"u8.ToArray()), "file", "a b" } })
        {
            Assert.Equal(HttpStatusCode.OK, (await SendAsync(server, HttpMethod.Post, 49983, id, signed, content: file)).StatusCode);
        }

        Assert.Equal(HttpStatusCode.Unauthorized, (await SendAsync(server, HttpMethod.Get, 49983, id, signed)).StatusCode);
        var read = await SendAsync(server, HttpMethod.Get, 49983, id, $"/files?path=/tmp/a%20b&signature={Sign("/tmp/a b", "read", envd, null)}");
        Assert.Equal("signed", await read.Content.ReadAsStringAsync());
        var old = until - 3600;
        Assert.Equal(HttpStatusCode.Unauthorized, (await SendAsync(server, HttpMethod.Get, 49983, id, $"/files?path=/tmp/a%20b&signature={Sign("/tmp/a b", "read", envd, old)}&signature_expiration={old}")).StatusCode);

        // A port: closed without a token, and nobody there at first.
        Assert.Equal(HttpStatusCode.Unauthorized, (await SendAsync(server, HttpMethod.Get, 8000, id, "/")).StatusCode);
        Assert.Equal(HttpStatusCode.BadGateway, (await SendAsync(server, HttpMethod.Get, 8000, id, "/", traffic)).StatusCode);
        var job = Text(await server.Api.PostAsync($"/v1/sessions/ses_{id}/executions", new JsonObject { ["argv"] = new JsonArray("python3", "-c", Program) }, HttpStatusCode.Created), "id");
        await foreach (var _ in server.Api.FollowAsync("ses_" + id, job))
        {
            break;
        }

        var page = await (await SendAsync(server, HttpMethod.Get, 8000, id, "/some/path?q=1", traffic)).Content.ReadAsStringAsync();
        Assert.StartsWith("GET /some/path?q=1 HTTP/1.1", page, StringComparison.Ordinal);
        Assert.DoesNotContain(traffic, page, StringComparison.Ordinal);

        // A paused sandbox is woken by it, and a WebSocket goes through as well.
        Assert.Equal("paused", Text(await server.Api.PostAsync($"/v1/sessions/ses_{id}/pause"), "state"));
        using var socket = new ClientWebSocket();
        socket.Options.SetRequestHeader("Host", $"8000-{id}.{Domain}");
        socket.Options.SetRequestHeader("E2B-Traffic-Access-Token", traffic);
        await socket.ConnectAsync(new UriBuilder(server.Url) { Scheme = "ws", Path = "/socket" }.Uri, CancellationToken.None);
        await socket.SendAsync("hello"u8.ToArray(), WebSocketMessageType.Text, true, CancellationToken.None);
        var buffer = new byte[64];
        var answer = await socket.ReceiveAsync(buffer, CancellationToken.None);
        Assert.Equal("hello", Encoding.UTF8.GetString(buffer, 0, answer.Count));

        // Another sandbox's token opens nothing; a sandbox that was made so is open to all.
        var open = await CreateAsync(server, "{\"templateID\": \"base\", \"timeout\": 60, \"network\": {\"allowPublicTraffic\": true}}");
        Assert.Equal(HttpStatusCode.Unauthorized, (await SendAsync(server, HttpMethod.Get, 8000, id, "/", Text(open, "trafficAccessToken"))).StatusCode);
        Assert.Equal(HttpStatusCode.BadGateway, (await SendAsync(server, HttpMethod.Get, 8000, Text(open, "sandboxID"), "/")).StatusCode);
    }

    private static async Task<JsonNode> CreateAsync(SandboxServer server, string body)
    {
        using var answer = await server.Http.PostAsync(new Uri("/v2/sandboxes", UriKind.Relative), new StringContent(body, Encoding.UTF8, "application/json"));
        Assert.Equal(HttpStatusCode.Created, answer.StatusCode);
        return (await answer.Content.ReadFromJsonAsync<JsonNode>())!;
    }

    private static async Task<HttpResponseMessage> SendAsync(SandboxServer server, HttpMethod method, int port, string id, string path, string? traffic = null, HttpContent? content = null)
    {
        using var request = new HttpRequestMessage(method, path) { Content = content };
        request.Headers.Host = $"{port}-{id}.{Domain}";
        if (traffic is not null)
        {
            request.Headers.Add("E2B-Traffic-Access-Token", traffic);
        }

        return await server.Http.SendAsync(request);
    }

    private static string Sign(string path, string operation, string token, long? until)
    {
        var text = $"{path}:{operation}::{token}" + (until is null ? "" : $":{until}");
        return Uri.EscapeDataString("v1_" + Convert.ToBase64String(SHA256.HashData(Encoding.UTF8.GetBytes(text))).TrimEnd('='));
    }
}
