using System.IO.Compression;
using System.Net;
using System.Net.WebSockets;
using System.Text;
using Microsoft.AspNetCore.Http;
using Sandbox.Abstractions;
using Xunit;

namespace Sandbox.Egress.Tests.Proxy;

/// <summary>Secrets in requests, and their echoes.</summary>
public sealed class SecretTests
{
    [Theory]
    [InlineData("1.1")]
    [InlineData("2.0")]
    public async Task A_secret_is_put_in_and_its_echo_is_taken_out(string version)
    {
        string? seen = null;
        await using var web = await TestServers.WebAsync(
            async http =>
            {
                seen = http.Request.Headers.Authorization + "|" + http.Request.Headers.AcceptEncoding;
                http.Response.Headers["X-Echo"] = http.Request.Headers.Authorization;
                http.Response.ContentLength = 4 + FakeSwap.Value.Length;
                await http.Response.WriteAsync("a " + FakeSwap.Value[..5]);
                await http.Response.Body.FlushAsync();
                await http.Response.WriteAsync(FakeSwap.Value[5..] + " b");
            },
            TestServers.Certificate(ProxyRig.Name));
        await using var rig = await InterceptTests.StartAsync(web, WithSecrets);
        using var client = rig.Client(Version.Parse(version));
        client.DefaultRequestHeaders.TryAddWithoutValidation("Authorization", $"Bearer {FakeSwap.Placeholder}");
        client.DefaultRequestHeaders.TryAddWithoutValidation("Accept-Encoding", "gzip, br");

        var response = await client.GetAsync($"https://{ProxyRig.Name}/");

        Assert.Equal($"Bearer {FakeSwap.Value}|identity", seen);
        Assert.Equal($"Bearer {FakeSwap.Placeholder}", response.Headers.GetValues("X-Echo").Single());
        Assert.Equal($"a {FakeSwap.Placeholder} b", await response.Content.ReadAsStringAsync());
        var line = await rig.Log.WaitAsync(r => r.Kind == EgressRecordKind.Request);
        Assert.Equal(["token"], line.Secrets);
        Assert.DoesNotContain(FakeSwap.Value, line.ToString(), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("gzip")]
    [InlineData("br")]
    public async Task An_echo_that_is_compressed_is_taken_out(string encoding)
    {
        await using var web = await TestServers.WebAsync(
            async http =>
            {
                http.Response.Headers.ContentEncoding = encoding;
                await using Stream stream = encoding == "gzip" ? new GZipStream(http.Response.Body, CompressionLevel.Fastest) : new BrotliStream(http.Response.Body, CompressionLevel.Fastest);
                await stream.WriteAsync(Encoding.ASCII.GetBytes("x" + FakeSwap.Value));
            },
            TestServers.Certificate(ProxyRig.Name));
        await using var rig = await InterceptTests.StartAsync(web, WithSecrets);
        using var client = rig.Client();

        var response = await client.GetAsync($"https://{ProxyRig.Name}/");

        Assert.Equal("x" + FakeSwap.Placeholder, await response.Content.ReadAsStringAsync());
        Assert.Empty(response.Content.Headers.ContentEncoding);
    }

    [Fact]
    public async Task What_cannot_be_looked_through_for_echoes_is_not_passed_on()
    {
        await using var web = await TestServers.WebAsync(
            http =>
            {
                http.Response.Headers.ContentEncoding = "zstd";
                return http.Response.WriteAsync("???");
            },
            TestServers.Certificate(ProxyRig.Name));
        await using var rig = await InterceptTests.StartAsync(web, WithSecrets);
        using var client = rig.Client();

        Assert.Equal(HttpStatusCode.BadGateway, (await client.GetAsync($"https://{ProxyRig.Name}/")).StatusCode);
    }

    [Fact]
    public async Task A_host_that_a_secret_is_bound_to_is_looked_into_though_no_rule_says_so()
    {
        string? seen = null;
        await using var web = await TestServers.WebAsync(
            http =>
            {
                seen = http.Request.Headers.Authorization;
                return Task.CompletedTask;
            },
            TestServers.Certificate(ProxyRig.Name));
        await using var rig = await InterceptTests.StartAsync(web, r =>
        {
            WithSecrets(r);
            r.Decisions.Intercepted.Clear();
            r.Decisions.Allowed.Add(ProxyRig.Name);
        });
        using var client = rig.Client();
        client.DefaultRequestHeaders.TryAddWithoutValidation("Authorization", FakeSwap.Placeholder);

        await client.GetAsync($"https://{ProxyRig.Name}/");

        Assert.Equal(FakeSwap.Value, seen);
    }

    [Fact]
    public async Task A_secret_is_not_put_in_without_TLS()
    {
        string? seen = null;
        await using var web = await TestServers.WebAsync(http =>
        {
            seen = http.Request.Headers.Authorization;
            return Task.CompletedTask;
        });
        await using var rig = await InterceptTests.StartAsync(web, WithSecrets, 80);
        using var client = rig.Client();
        client.DefaultRequestHeaders.TryAddWithoutValidation("Authorization", FakeSwap.Placeholder);

        using var response = await client.GetAsync($"http://{ProxyRig.Name}/");

        // Not even the placeholder goes out: the program would wonder why its credential does not work.
        Assert.Equal(HttpStatusCode.Forbidden, response.StatusCode);
        Assert.Contains("https", await response.Content.ReadAsStringAsync());
        Assert.Null(seen);
        Assert.Empty((await rig.Log.WaitAsync(r => r.Kind == EgressRecordKind.Request)).Secrets);
    }

    [Theory]
    [InlineData("/", FakeSwap.Placeholder)]
    [InlineData("/?q=" + FakeSwap.Placeholder, "none")]
    public async Task A_placeholder_that_is_sent_elsewhere_is_refused(string target, string header)
    {
        await using var web = await TestServers.WebAsync(_ => Task.CompletedTask, TestServers.Certificate(ProxyRig.Name));
        await using var rig = await InterceptTests.StartAsync(web, r => r.Context = r.Context with { Secrets = new FakeSwap("github.example.com") });
        using var client = rig.Client();
        client.DefaultRequestHeaders.TryAddWithoutValidation("X-Anything", header);

        var response = await client.GetAsync($"https://{ProxyRig.Name}{target}");

        Assert.Equal(HttpStatusCode.Forbidden, response.StatusCode);
        Assert.Contains("egress_secret_misused", await response.Content.ReadAsStringAsync());
        Assert.Equal(EgressOutcome.Denied, (await rig.Log.WaitAsync(r => r.Kind == EgressRecordKind.Request)).Outcome);
        Assert.Empty(rig.Dialled);
    }

    [Theory]
    [InlineData("hello", true)]
    [InlineData("your key is " + FakeSwap.Value, false)]
    public async Task A_WebSocket_that_echoes_a_secret_is_broken_off(string message, bool arrives)
    {
        await using var web = await TestServers.WebAsync(
            async http =>
            {
                using var socket = await http.WebSockets.AcceptWebSocketAsync(new WebSocketAcceptContext { DangerousEnableCompression = true });
                await socket.SendAsync(Encoding.ASCII.GetBytes(message), WebSocketMessageType.Text, true, default);
                await socket.ReceiveAsync(new byte[10], http.RequestAborted);
            },
            TestServers.Certificate(ProxyRig.Name));
        await using var rig = await InterceptTests.StartAsync(web, WithSecrets);
        using var client = rig.Client();
        using var socket = new ClientWebSocket();
        socket.Options.DangerousDeflateOptions = new WebSocketDeflateOptions();
        await socket.ConnectAsync(new Uri($"wss://{ProxyRig.Name}/"), client, default);
        var buffer = new byte[100];

        if (arrives)
        {
            var got = await socket.ReceiveAsync(buffer, default).WaitAsync(TimeSpan.FromSeconds(10));
            Assert.Equal(message, Encoding.ASCII.GetString(buffer, 0, got.Count));
        }
        else
        {
            await Assert.ThrowsAsync<WebSocketException>(() => socket.ReceiveAsync(buffer, default).WaitAsync(TimeSpan.FromSeconds(10)));
            Assert.DoesNotContain(FakeSwap.Value, Encoding.ASCII.GetString(buffer), StringComparison.Ordinal);
        }
    }

    private static void WithSecrets(ProxyRig rig) => rig.Context = rig.Context with { Secrets = new FakeSwap(ProxyRig.Name) };
}
