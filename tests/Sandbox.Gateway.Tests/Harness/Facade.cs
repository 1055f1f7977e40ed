using System.Net;
using System.Net.Http.Json;
using System.Text;
using System.Text.Json.Nodes;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using Sandbox.Abstractions;
using Sandbox.Gateway.Executions;
using Xunit;

namespace Sandbox.Gateway.Tests.Harness;

/// <summary>The facade listening on a real loopback port.</summary>
public sealed class Facade : IAsyncDisposable
{
    private readonly WebApplication _app;

    private Facade(WebApplication app, FakeWorld world)
    {
        _app = app;
        World = world;
        Url = new Uri(app.Urls.First());
        Http = new HttpClient { BaseAddress = Url, Timeout = TimeSpan.FromMinutes(2) };
    }

    public FakeWorld World { get; }

    public Uri Url { get; }

    public HttpClient Http { get; }

    public static async Task<Facade> StartAsync(GatewayOptions? options = null)
    {
        options ??= new GatewayOptions { Development = true };
        var world = new FakeWorld();
        var builder = WebApplication.CreateSlimBuilder();
        builder.Logging.ClearProviders();
        builder.WebHost.UseKestrelCore().ConfigureKestrel(k => k.Limits.MaxRequestBodySize = options.MaxJsonBytes + 1).UseUrls("http://127.0.0.1:0");
        builder.Services.AddRoutingCore();
        builder.Services.AddSingleton(FakeGrains.Create(world));
        builder.Services.AddSingleton<IOutputSource>(world);
        builder.Services.AddSandboxGateway(options);
        var app = builder.Build();
        app.MapSandboxGateway();
        await app.StartAsync();
        return new Facade(app, world);
    }

    public string NewSession()
    {
        var id = SandboxIds.NewSession();
        World.NewSession(id, TenantContext.Development);
        return id;
    }

    public (string Session, string Execution, FakeLog Log) NewExecution()
    {
        var session = NewSession();
        var execution = SandboxIds.NewExecution();
        return (session, execution, World.NewLog(session, execution));
    }

    public Task<HttpResponseMessage> PostAsync(string path, string json) => Http.PostAsync(path, new StringContent(json, Encoding.UTF8, "application/json"));

    /// <summary>Checks that an answer is a problem as documented, and returns it.</summary>
    public static async Task<JsonNode> ProblemAsync(HttpResponseMessage answer, HttpStatusCode status, string code, string? field = null)
    {
        var text = await answer.Content.ReadAsStringAsync();
        Assert.True(answer.StatusCode == status, $"{(int)answer.StatusCode}: {text}");
        Assert.Equal("application/problem+json", answer.Content.Headers.ContentType?.MediaType);
        var problem = JsonNode.Parse(text)!;
        Assert.Equal(code, (string?)problem["code"]);
        Assert.Equal((int)status, (int)problem["status"]!);
        Assert.NotEmpty((string)problem["detail"]!);
        if (field is not null)
        {
            Assert.Equal(field, (string?)problem["field"]);
        }

        return problem;
    }

    public async Task<JsonNode> GetAsync(string path) => (await Http.GetFromJsonAsync<JsonNode>(path))!;

    public async ValueTask DisposeAsync()
    {
        Http.Dispose();
        await _app.StopAsync();
        await _app.DisposeAsync();
    }
}
