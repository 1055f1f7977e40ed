using System.Net;
using System.Net.Http.Json;
using System.Net.WebSockets;
using System.Security.Cryptography;
using System.Text;
using Microsoft.AspNetCore.Http;
using Sandbox.Abstractions;
using Xunit;

namespace Sandbox.Egress.Tests.Proxy;

/// <summary>Connections that are looked into, over TLS.</summary>
public sealed class InterceptTests
{
    public static TheoryData<string> Versions => ["1.1", "2.0"];

    [Theory]
    [MemberData(nameof(Versions))]
    public async Task A_request_goes_through_and_is_in_the_log(string version)
    {
        await using var web = await TestServers.WebAsync(
            async http =>
            {
                http.Response.Headers["X-Seen"] = $"{http.Request.Protocol} {http.Request.Host} {http.Request.Headers["X-Mine"]} {http.Request.Headers.Keys.Count(k => k.StartsWith("X-Forwarded", StringComparison.OrdinalIgnoreCase) || k == "Via")}";
                await http.Response.WriteAsync("hello");
            },
            TestServers.Certificate(ProxyRig.Name));
        await using var rig = await StartAsync(web);
        using var client = rig.Client(Version.Parse(version));
        using var request = new HttpRequestMessage(HttpMethod.Get, $"https://{ProxyRig.Name}/some/path?secret=1") { Version = Version.Parse(version), VersionPolicy = HttpVersionPolicy.RequestVersionExact, Headers = { { "X-Mine", "yes" } } };

        var response = await client.SendAsync(request);

        Assert.Equal("hello", await response.Content.ReadAsStringAsync());
        Assert.Equal($"HTTP/{(version == "2.0" ? "2" : version)} {ProxyRig.Name} yes 0", response.Headers.GetValues("X-Seen").Single());
        var line = await rig.Log.WaitAsync(r => r.Kind == EgressRecordKind.Request);
        Assert.Equal((EgressOutcome.Allowed, "GET", "/some/path", 200, 5, "rule 2"), (line.Outcome, line.Method, line.Path, line.Status, line.BytesDown, line.By));
        Assert.Equal((ProxyRig.Name, ProxyRig.Address.ToString(), 443), (line.Host, line.Address, line.Port));
    }

    [Theory]
    [MemberData(nameof(Versions))]
    public async Task Big_bodies_go_both_ways(string version)
    {
        await using var web = await TestServers.WebAsync(
            async http =>
            {
                // Not while it is read: a client of HTTP/1.1 reads no answer before it has sent all.
                var all = new MemoryStream();
                await http.Request.Body.CopyToAsync(all);
                await http.Response.Body.WriteAsync(all.ToArray());
            },
            TestServers.Certificate(ProxyRig.Name));
        await using var rig = await StartAsync(web);
        using var client = rig.Client(Version.Parse(version));
        var body = RandomNumberGenerator.GetBytes(12_000_000);

        var response = await client.PostAsync($"https://{ProxyRig.Name}/", new ByteArrayContent(body));

        Assert.Equal(body, await response.Content.ReadAsByteArrayAsync());
        var line = await rig.Log.WaitAsync(r => r.Kind == EgressRecordKind.Request);
        Assert.Equal((body.Length, body.Length), (line.BytesUp, line.BytesDown));
    }

    [Theory]
    [MemberData(nameof(Versions))]
    public async Task Events_arrive_one_by_one(string version)
    {
        using var go = new SemaphoreSlim(0);
        await using var web = await TestServers.WebAsync(
            async http =>
            {
                http.Response.ContentType = "text/event-stream";
                await http.Response.Body.FlushAsync();
                for (var i = 0; i < 3; i++)
                {
                    await go.WaitAsync();
                    await http.Response.WriteAsync($"data: {i}\n\n");
                    await http.Response.Body.FlushAsync();
                }
            },
            TestServers.Certificate(ProxyRig.Name));
        await using var rig = await StartAsync(web);
        using var client = rig.Client(Version.Parse(version));

        using var response = await client.GetAsync($"https://{ProxyRig.Name}/", HttpCompletionOption.ResponseHeadersRead).WaitAsync(TimeSpan.FromSeconds(10));
        using var reader = new StreamReader(await response.Content.ReadAsStreamAsync());
        for (var i = 0; i < 3; i++)
        {
            go.Release();
            Assert.Equal($"data: {i}", await reader.ReadLineAsync().WaitAsync(TimeSpan.FromSeconds(10)));
            await reader.ReadLineAsync();
        }
    }

    [Theory]
    [MemberData(nameof(Versions))]
    public async Task A_WebSocket_goes_through(string version)
    {
        await using var web = await TestServers.WebAsync(
            async http =>
            {
                using var socket = await http.WebSockets.AcceptWebSocketAsync();
                var buffer = new byte[100];
                var got = await socket.ReceiveAsync(buffer, default);
                await socket.SendAsync(buffer.AsMemory(0, got.Count), WebSocketMessageType.Text, true, default);
                await socket.CloseAsync(WebSocketCloseStatus.NormalClosure, null, default);
            },
            TestServers.Certificate(ProxyRig.Name));
        await using var rig = await StartAsync(web);
        using var client = rig.Client(Version.Parse(version));
        using var socket = new ClientWebSocket();
        socket.Options.HttpVersion = Version.Parse(version);
        socket.Options.HttpVersionPolicy = HttpVersionPolicy.RequestVersionExact;

        await socket.ConnectAsync(new Uri($"wss://{ProxyRig.Name}/chat"), client, default).WaitAsync(TimeSpan.FromSeconds(15));
        await socket.SendAsync("ping"u8.ToArray(), WebSocketMessageType.Text, true, default);
        var buffer = new byte[100];
        var got = await socket.ReceiveAsync(buffer, default).WaitAsync(TimeSpan.FromSeconds(15));

        Assert.Equal("ping", Encoding.ASCII.GetString(buffer, 0, got.Count));
        await socket.ReceiveAsync(buffer, default).WaitAsync(TimeSpan.FromSeconds(15));
        await socket.CloseAsync(WebSocketCloseStatus.NormalClosure, null, default);
        var line = await rig.Log.WaitAsync(r => r.Kind == EgressRecordKind.Request);
        Assert.Equal(("GET", "/chat"), (line.Method, line.Path));
        Assert.True(line.BytesUp > 4 && line.BytesDown > 4, line.ToString());
    }

    [Fact]
    public async Task Trailers_arrive_as_gRPC_needs_them()
    {
        await using var web = await TestServers.WebAsync(
            async http =>
            {
                http.Response.ContentType = "application/grpc";
                http.Response.DeclareTrailer("grpc-status");
                await http.Response.WriteAsync("message");
                http.Response.AppendTrailer("grpc-status", "0");
            },
            TestServers.Certificate(ProxyRig.Name));
        await using var rig = await StartAsync(web);
        using var client = rig.Client(HttpVersion.Version20);
        using var request = new HttpRequestMessage(HttpMethod.Post, $"https://{ProxyRig.Name}/service/Method")
        {
            Version = HttpVersion.Version20,
            Content = new StringContent("question") { Headers = { ContentType = new("application/grpc") } },
            Headers = { { "TE", "trailers" } },
        };

        var response = await client.SendAsync(request);

        Assert.Equal("message", await response.Content.ReadAsStringAsync());
        Assert.Equal("0", response.TrailingHeaders.GetValues("grpc-status").Single());
    }

    [Fact]
    public async Task Both_sides_may_speak_at_once()
    {
        await using var web = await TestServers.WebAsync(
            async http =>
            {
                http.Response.ContentType = "application/grpc";
                await http.Response.Body.FlushAsync();
                var buffer = new byte[100];
                int count;
                while ((count = await http.Request.Body.ReadAsync(buffer)) > 0)
                {
                    await http.Response.Body.WriteAsync(buffer.AsMemory(0, count));
                }
            },
            TestServers.Certificate(ProxyRig.Name));
        await using var rig = await StartAsync(web);
        using var client = rig.Client(HttpVersion.Version20);
        var content = new PipedContent();
        using var request = new HttpRequestMessage(HttpMethod.Post, $"https://{ProxyRig.Name}/") { Version = HttpVersion.Version20, VersionPolicy = HttpVersionPolicy.RequestVersionExact, Content = content };
        content.Headers.ContentType = new("application/grpc");

        using var response = await client.SendAsync(request, HttpCompletionOption.ResponseHeadersRead).WaitAsync(TimeSpan.FromSeconds(10));
        await using var answer = await response.Content.ReadAsStreamAsync();
        for (var i = 0; i < 3; i++)
        {
            await content.Pieces.Writer.WriteAsync([(byte)i]);
            var got = new byte[1];
            await answer.ReadExactlyAsync(got).AsTask().WaitAsync(TimeSpan.FromSeconds(10));
            Assert.Equal(i, got[0]);
        }

        content.Pieces.Writer.Complete();
        Assert.Equal(0, await answer.ReadAsync(new byte[1]));
    }

    [Fact]
    public async Task A_body_is_sent_after_100_Continue()
    {
        await using var web = await TestServers.WebAsync(async http => await http.Response.WriteAsync(await new StreamReader(http.Request.Body).ReadToEndAsync()), TestServers.Certificate(ProxyRig.Name));
        await using var rig = await StartAsync(web);
        using var client = rig.Client();
        using var request = new HttpRequestMessage(HttpMethod.Post, $"https://{ProxyRig.Name}/") { Content = new StringContent("after all") };
        request.Headers.ExpectContinue = true;

        var response = await client.SendAsync(request);

        Assert.Equal("after all", await response.Content.ReadAsStringAsync());
    }

    [Fact]
    public async Task A_redirect_is_passed_on_and_not_followed()
    {
        await using var web = await TestServers.WebAsync(
            http =>
            {
                http.Response.Redirect("http://169.254.169.254/latest/meta-data/");
                return Task.CompletedTask;
            },
            TestServers.Certificate(ProxyRig.Name));
        await using var rig = await StartAsync(web);
        using var client = rig.Client();

        var response = await client.GetAsync($"https://{ProxyRig.Name}/");

        Assert.Equal(HttpStatusCode.Redirect, response.StatusCode);
        Assert.Equal("169.254.169.254", response.Headers.Location!.Host);

        // What the guest then does itself goes nowhere.
        using var next = await rig.ConnectAsync(IPAddress.Parse("169.254.169.254"), 80);
        Assert.Equal(0, await RawHttp.ReadOrResetAsync(next));
        Assert.Contains("not a public address", (await rig.Log.WaitAsync(r => r.Address == "169.254.169.254")).Reason);
    }

    [Theory]
    [MemberData(nameof(Versions))]
    public async Task A_path_that_is_denied_gets_an_answer_that_says_why(string version)
    {
        await using var web = await TestServers.WebAsync(http => http.Response.WriteAsync("no"), TestServers.Certificate(ProxyRig.Name));
        await using var rig = await StartAsync(web, r => r.Decisions.Requests = (_, method, path) => method == "DELETE" || path == "/admin" ? EgressAction.Deny : null);
        using var client = rig.Client(Version.Parse(version));

        var response = await client.GetAsync($"https://{ProxyRig.Name}/admin?q=1");

        Assert.Equal(HttpStatusCode.Forbidden, response.StatusCode);
        var body = await response.Content.ReadFromJsonAsync<Dictionary<string, string>>();
        Assert.Equal(("egress_denied", "rule 3", "Not this path."), (body!["error"], body["by"], body["reason"]));
        var line = await rig.Log.WaitAsync(r => r.Kind == EgressRecordKind.Request);
        Assert.Equal((EgressOutcome.Denied, 403, "/admin"), (line.Outcome, line.Status, line.Path));
        Assert.Empty(rig.Dialled);
        Assert.Equal(HttpStatusCode.OK, (await client.GetAsync($"https://{ProxyRig.Name}/other")).StatusCode);
    }

    [Fact]
    public async Task A_policy_that_is_tried_out_lets_pass_and_says_so()
    {
        await using var web = await TestServers.WebAsync(http => http.Response.WriteAsync("ok"), TestServers.Certificate(ProxyRig.Name));
        await using var rig = await StartAsync(web, r =>
        {
            r.Decisions.Requests = (_, _, _) => EgressAction.Deny;
            r.Decisions.Source = new EgressPolicy { Mode = EgressMode.DryRun };
        });
        using var client = rig.Client();

        Assert.Equal("ok", await client.GetStringAsync($"https://{ProxyRig.Name}/"));
        Assert.Equal(EgressOutcome.WouldDeny, (await rig.Log.WaitAsync(r => r.Kind == EgressRecordKind.Request)).Outcome);
    }

    [Fact]
    public async Task A_change_of_policy_ends_requests_that_are_permitted_no_more()
    {
        var arrived = new SemaphoreSlim(0);
        var go = new TaskCompletionSource();
        await using var web = await TestServers.WebAsync(
            async http =>
            {
                arrived.Release();
                await go.Task.WaitAsync(http.RequestAborted);
                await http.Response.WriteAsync("ok");
            },
            TestServers.Certificate(ProxyRig.Name));
        await using var rig = await StartAsync(web);
        using var client = rig.Client();
        var kept = client.GetStringAsync($"https://{ProxyRig.Name}/kept");
        var ended = client.GetStringAsync($"https://{ProxyRig.Name}/ended");
        await arrived.WaitAsync(TimeSpan.FromSeconds(10));
        await arrived.WaitAsync(TimeSpan.FromSeconds(10));

        var after = new FakeDecisions { Requests = (_, _, path) => path == "/ended" ? EgressAction.Deny : null };
        after.Intercepted.Add(ProxyRig.Name);
        await rig.Proxy.UpdateAsync(rig.Context with { Decisions = after });

        await Assert.ThrowsAsync<HttpRequestException>(() => ended);
        go.SetResult();
        Assert.Equal("ok", await kept);
        Assert.Contains("policy was changed", (await rig.Log.WaitAsync(r => r.Path == "/ended")).Reason);
    }

    [Fact]
    public async Task A_guest_that_does_not_trust_the_authority_is_in_the_log()
    {
        await using var rig = await ProxyRig.StartAsync(r => r.Decisions.Intercepted.Add(ProxyRig.Name));

        await Assert.ThrowsAnyAsync<Exception>(() => rig.ConnectTlsAsync(TestServers.Root.Certificate));

        Assert.Equal(EgressOutcome.Failed, (await rig.Log.WaitAsync(_ => true)).Outcome);
    }

    [Fact]
    public async Task A_guest_that_goes_ends_its_request_at_the_other_side()
    {
        var aborted = new TaskCompletionSource();
        var arrived = new TaskCompletionSource();
        await using var web = await TestServers.WebAsync(
            async http =>
            {
                arrived.SetResult();
                http.RequestAborted.Register(() => aborted.TrySetResult());
                await aborted.Task;
            },
            TestServers.Certificate(ProxyRig.Name));
        await using var rig = await StartAsync(web);
        using var client = rig.Client();
        using var stop = new CancellationTokenSource();
        var request = client.GetAsync($"https://{ProxyRig.Name}/", stop.Token);
        await arrived.Task.WaitAsync(TimeSpan.FromSeconds(10));

        await stop.CancelAsync();

        await aborted.Task.WaitAsync(TimeSpan.FromSeconds(10));
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => request);
    }

    internal static Task<ProxyRig> StartAsync(TestWeb web, Action<ProxyRig>? setUp = null, int port = 443, Sandbox.Egress.Proxy.ProxyOptions? options = null) => ProxyRig.StartAsync(
        rig =>
        {
            rig.Decisions.Intercepted.Add(ProxyRig.Name);
            rig.Route(ProxyRig.Address, port, web.EndPoint);
            setUp?.Invoke(rig);
        },
        options);

    private sealed class PipedContent : HttpContent
    {
        public System.Threading.Channels.Channel<byte[]> Pieces { get; } = System.Threading.Channels.Channel.CreateUnbounded<byte[]>();

        protected override async Task SerializeToStreamAsync(Stream stream, TransportContext? context)
        {
            // Or the client keeps the headers until there is a body.
            await stream.FlushAsync();
            await foreach (var piece in Pieces.Reader.ReadAllAsync())
            {
                await stream.WriteAsync(piece);
                await stream.FlushAsync();
            }
        }

        protected override bool TryComputeLength(out long length)
        {
            length = 0;
            return false;
        }
    }
}
