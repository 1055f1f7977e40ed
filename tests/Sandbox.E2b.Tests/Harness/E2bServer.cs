using System.Buffers.Binary;
using System.Net.Http.Headers;
using System.Text;
using System.Text.Json.Nodes;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using Sandbox.Abstractions;
using Sandbox.E2b.Data;
using Sandbox.Gateway;
using Sandbox.Gateway.Executions;

namespace Sandbox.E2b.Tests.Harness;

/// <summary>The facade on a loopback port, and a client that has the tokens of its one sandbox.</summary>
internal sealed class E2bServer : IAsyncDisposable
{
    private readonly WebApplication _app;

    private E2bServer(WebApplication app, FakeSandbox sandbox, GatewayOptions options)
    {
        _app = app;
        Sandbox = sandbox;
        var session = SandboxIds.NewSession();
        var tokens = new SandboxTokens(options.TokenKey);
        Http = new HttpClient { BaseAddress = new Uri(app.Urls.First()), Timeout = TimeSpan.FromMinutes(2) };
        Http.DefaultRequestHeaders.Add("E2b-Sandbox-Id", E2bIds.ToSandbox(session));
        Http.DefaultRequestHeaders.Add("X-Access-Token", tokens.Envd(session, TenantContext.Development));
    }

    public FakeSandbox Sandbox { get; }

    public HttpClient Http { get; }

    public static async Task<E2bServer> StartAsync(TimeSpan? keepAlive = null)
    {
        var options = new GatewayOptions { Development = true, KeepAlive = keepAlive ?? TimeSpan.FromSeconds(15), MaxUploadBytes = 4 << 20 };
        var sandbox = new FakeSandbox();
        var builder = WebApplication.CreateSlimBuilder();
        builder.Logging.ClearProviders();
        builder.WebHost.UseKestrelCore().ConfigureKestrel(k => k.Limits.MaxRequestBodySize = options.MaxJsonBytes + 1).UseUrls("http://127.0.0.1:0");
        builder.Services.AddRoutingCore();
        builder.Services.AddSingleton(FakeGrains.Create(sandbox));
        builder.Services.AddSingleton<IOutputSource>(sandbox);
        builder.Services.AddSandboxGateway(options);
        builder.Services.AddE2bFacade(new E2bOptions());
        var app = builder.Build();
        app.MapSandboxGateway();
        await app.StartAsync();
        return new E2bServer(app, sandbox, options);
    }

    /// <summary>A unary call.</summary>
    public async Task<(int Status, JsonNode Body)> CallAsync(string procedure, string json)
    {
        using var answer = await Http.PostAsync("/" + procedure, new StringContent(json, Encoding.UTF8, "application/json"));
        return ((int)answer.StatusCode, JsonNode.Parse(await answer.Content.ReadAsStringAsync())!);
    }

    /// <summary>A call whose answer is a stream, begun.</summary>
    public async Task<Stream> StreamAsync(string procedure, byte[] body, params (string Name, string Value)[] headers)
    {
        var request = new HttpRequestMessage(HttpMethod.Post, "/" + procedure) { Content = new ByteArrayContent(body) };
        request.Content.Headers.ContentType = new MediaTypeHeaderValue("application/connect+json");
        foreach (var (name, value) in headers)
        {
            request.Headers.Add(name, value);
        }

        var answer = await Http.SendAsync(request, HttpCompletionOption.ResponseHeadersRead);
        return await answer.Content.ReadAsStreamAsync();
    }

    /// <summary>All messages of a stream, its last frame included.</summary>
    public async Task<List<JsonNode>> AllAsync(string procedure, string json, params (string Name, string Value)[] headers)
    {
        await using var stream = await StreamAsync(procedure, Frame(0, json), headers);
        var all = new List<JsonNode>();
        while (await NextAsync(stream) is { } next)
        {
            all.Add(next);
        }

        return all;
    }

    public static async Task<JsonNode?> NextAsync(Stream stream)
    {
        var header = new byte[5];
        if (await stream.ReadAtLeastAsync(header, 5, throwOnEndOfStream: false) < 5)
        {
            return null;
        }

        var payload = new byte[BinaryPrimitives.ReadUInt32BigEndian(header.AsSpan(1))];
        await stream.ReadExactlyAsync(payload);
        return JsonNode.Parse(payload);
    }

    public static byte[] Frame(byte flags, string json) => E2b.Connect.ConnectFrames.Pack(flags, Encoding.UTF8.GetBytes(json));

    public async ValueTask DisposeAsync()
    {
        Http.Dispose();
        await _app.StopAsync();
        await _app.DisposeAsync();
    }
}
