using System.Net;
using Sandbox.Abstractions;
using Sandbox.Gateway.Tests.Harness;
using Xunit;

namespace Sandbox.Gateway.Tests.Auth;

public sealed class AuthenticationTests : IAsyncLifetime
{
    private const string Key = "sbx_acme_abcdefghijklmnopqrstuvwxyz";
    private Facade _facade = null!;

    public async ValueTask InitializeAsync()
    {
        _facade = await Facade.StartAsync(new GatewayOptions());
        _facade.World.Keys[Key] = "acme";
    }

    public ValueTask DisposeAsync() => _facade.DisposeAsync();

    [Theory]
    [InlineData("/v1/sessions")]
    [InlineData("/V1/sessions")]
    [InlineData("/V1/hosts")]
    [InlineData("/v1/hosts/")]
    [InlineData("//v1/hosts")]
    [InlineData("/v1/nothing/there")]
    [InlineData("/")]
    public async Task Nothing_but_health_and_the_document_is_open(string path)
    {
        using var answer = await _facade.Http.GetAsync(new Uri(_facade.Url.ToString().TrimEnd('/') + path));

        await Facade.ProblemAsync(answer, HttpStatusCode.Unauthorized, "unauthenticated");
        Assert.Equal("Bearer", answer.Headers.WwwAuthenticate.ToString());
    }

    [Theory]
    [InlineData("/healthz")]
    [InlineData("/readyz")]
    [InlineData("/openapi/v1.json")]
    public async Task Health_and_the_document_need_no_key(string path)
    {
        using var answer = await _facade.Http.GetAsync(path);

        Assert.Equal(HttpStatusCode.OK, answer.StatusCode);
    }

    [Theory]
    [InlineData("X-API-Key", Key)]
    [InlineData("Authorization", "Bearer " + Key)]
    [InlineData("Authorization", "bearer " + Key)]
    public async Task A_valid_key_names_the_tenant(string header, string value)
    {
        using var answer = await SendAsync(header, value, HttpMethod.Post);

        Assert.Equal(HttpStatusCode.Created, answer.StatusCode);
        Assert.Equal("acme", _facade.World.Noted("tenant"));
    }

    [Theory]
    [InlineData("sbx_acme_abcdefghijklmnopqrstuvwxyy")]
    [InlineData("sbx_other_abcdefghijklmnopqrstuvwxyz")]
    [InlineData("sbx_@system_abcdefghijklmnopqrstuvwxyz")]
    [InlineData("hello")]
    [InlineData("sbx_acme_")]
    public async Task A_wrong_key_is_refused_without_saying_which_part_is_wrong(string key)
    {
        using var answer = await SendAsync("X-API-Key", key, HttpMethod.Get);

        var problem = await Facade.ProblemAsync(answer, HttpStatusCode.Unauthorized, "unauthenticated");
        Assert.DoesNotContain(key, problem.ToString(), StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_key_found_valid_is_not_asked_about_each_time()
    {
        for (var i = 0; i < 5; i++)
        {
            using var answer = await SendAsync("X-API-Key", Key, HttpMethod.Get);
        }

        Assert.Equal(1, _facade.World.Verifications);
    }

    [Fact]
    public async Task A_session_of_another_tenant_does_not_exist()
    {
        var id = SandboxIds.NewSession();
        _facade.World.NewSession(id, "other");

        using var request = new HttpRequestMessage(HttpMethod.Get, $"/v1/sessions/{id}") { Headers = { { "X-API-Key", Key } } };
        using var answer = await _facade.Http.SendAsync(request);

        await Facade.ProblemAsync(answer, HttpStatusCode.NotFound, "notFound");
    }

    private Task<HttpResponseMessage> SendAsync(string header, string value, HttpMethod method)
    {
        var request = new HttpRequestMessage(method, "/v1/sessions?wait=0");
        request.Headers.TryAddWithoutValidation(header, value);
        return _facade.Http.SendAsync(request);
    }
}
