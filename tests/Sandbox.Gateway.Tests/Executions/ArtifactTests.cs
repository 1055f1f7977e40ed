using System.Buffers.Binary;
using System.Buffers.Text;
using System.Net;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json.Nodes;
using Sandbox.Abstractions;
using Sandbox.Gateway.Tests.Harness;
using Xunit;

namespace Sandbox.Gateway.Tests.Executions;

/// <summary>Artifacts in events, and fetched by key and by signed address.</summary>
public sealed class ArtifactTests : IAsyncLifetime
{
    private const string Key = "sbx_acme_abcdefghijklmnopqrstuvwxyz";
    private static readonly byte[] TokenKey = RandomNumberGenerator.GetBytes(32);
    private readonly string _artifact = SandboxIds.NewArtifact();
    private readonly string _session = SandboxIds.NewSession();
    private readonly string _execution = SandboxIds.NewExecution();
    private Facade _facade = null!;

    public async ValueTask InitializeAsync()
    {
        _facade = await Facade.StartAsync(new GatewayOptions { TokenKey = TokenKey });
        _facade.World.Keys[Key] = "acme";
        _facade.World.NewSession(_session, "acme");
        _facade.World.FileSizes[_artifact] = (600 * 1024) + 3;
    }

    public ValueTask DisposeAsync() => _facade.DisposeAsync();

    [Fact]
    public async Task An_event_has_the_address_of_what_is_stored()
    {
        var log = _facade.World.NewLog(_session, _execution);
        log.Write(OutputKind.Artifact, OutputJson.Write(new ArtifactData { Path = "/a\nb", Size = 5, MimeType = "text/plain", Sha256 = "x", Inline = "aGVsbG8=" }));
        log.Write(OutputKind.Artifact, OutputJson.Write(new ArtifactData { Path = "/c", Size = 600_000, MimeType = "image/png", Sha256 = "y", Id = _artifact }));
        log.Exit(0);
        using var answer = await GetAsync($"/v1/sessions/{_session}/executions/{_execution}/output", Key);
        var events = JsonNode.Parse(await answer.Content.ReadAsStringAsync())!["events"]!.AsArray();
        Assert.Equal("artifact", (string?)events[0]!["kind"]);
        Assert.Equal(("/a\nb", "aGVsbG8=", null), ((string?)events[0]!["path"], (string?)events[0]!["inline"], (string?)events[0]!["url"]));

        // It needs no key.
        using var fetched = await GetAsync((string)events[1]!["url"]!);
        await AssertWholeAsync(fetched);
        using var head = await _facade.Http.SendAsync(new HttpRequestMessage(HttpMethod.Head, (string)events[1]!["url"]!));
        Assert.Equal((600 * 1024) + 3, head.Content.Headers.ContentLength);
    }

    [Fact]
    public async Task Without_a_signed_address_a_key_is_needed_and_the_right_one()
    {
        using var none = await GetAsync($"/v1/sessions/{_session}/artifacts/{_artifact}");
        await Facade.ProblemAsync(none, HttpStatusCode.Unauthorized, "unauthenticated");
        using var whole = await GetAsync($"/v1/sessions/{_session}/artifacts/{_artifact}", Key);
        await AssertWholeAsync(whole);
        foreach (var id in new[] { "x", SandboxIds.NewArtifact(), "..%2f..%2fetc" })
        {
            using var missing = await GetAsync($"/v1/sessions/{_session}/artifacts/{id}", Key);
            await Facade.ProblemAsync(missing, HttpStatusCode.NotFound, "notFound");
        }

        const string Other = "sbx_other_abcdefghijklmnopqrstuvwxyz";
        _facade.World.Keys[Other] = "other";
        using var foreign = await GetAsync($"/v1/sessions/{_session}/artifacts/{_artifact}", Other);
        await Facade.ProblemAsync(foreign, HttpStatusCode.NotFound, "notFound");
    }

    [Fact]
    public async Task A_token_is_good_for_what_was_signed_until_it_expires()
    {
        using var good = await GetAsync("/v1/artifacts/" + Token(TokenKey, DateTimeOffset.UtcNow.AddMinutes(1), "acme"));
        await AssertWholeAsync(good);
        using var foreign = await GetAsync("/v1/artifacts/" + Token(TokenKey, DateTimeOffset.UtcNow.AddMinutes(1), "other"));
        await Facade.ProblemAsync(foreign, HttpStatusCode.NotFound, "notFound");
        var token = Token(TokenKey, DateTimeOffset.UtcNow.AddMinutes(1), "acme");
        foreach (var bad in new[] { Token(TokenKey, DateTimeOffset.UtcNow.AddSeconds(-2), "acme"), Token(new byte[32], DateTimeOffset.UtcNow.AddMinutes(1), "acme"), (token[0] == 'A' ? "B" : "A") + token[1..], token[..^4], "A", "%21", new string('A', 2000) })
        {
            using var refused = await GetAsync("/v1/artifacts/" + bad);
            await Facade.ProblemAsync(refused, HttpStatusCode.Forbidden, "permissionDenied");
        }
    }

    [Theory]
    [InlineData("image/png", "image/png")]
    [InlineData("text/plain", "text/plain")]
    [InlineData("text/html", "application/octet-stream")]
    [InlineData("application/zip", "application/octet-stream")]
    public async Task No_browser_runs_what_it_gets(string type, string told)
    {
        _facade.World.ArtifactType = type;
        using var answer = await GetAsync($"/v1/sessions/{_session}/artifacts/{_artifact}", Key);
        Assert.Equal(told, answer.Content.Headers.ContentType!.MediaType);
        Assert.Equal("attachment; filename=\"plot 1.png\"", answer.Content.Headers.ContentDisposition!.ToString());
        Assert.Equal("nosniff", answer.Headers.GetValues("X-Content-Type-Options").Single());
        Assert.StartsWith("sandbox", answer.Headers.GetValues("Content-Security-Policy").Single(), StringComparison.Ordinal);
    }

    private string Token(byte[] key, DateTimeOffset until, string tenant)
    {
        var payload = new byte[8];
        BinaryPrimitives.WriteInt64BigEndian(payload, until.ToUnixTimeSeconds());
        payload = [.. payload, .. Encoding.ASCII.GetBytes(_session + _artifact + tenant)];
        byte[] signed = [.. "sandbox artifact link\0"u8, .. payload];
        return Base64Url.EncodeToString([.. payload, .. HMACSHA256.HashData(key, signed)]);
    }

    private async Task<HttpResponseMessage> GetAsync(string path, string? key = null)
    {
        using var request = new HttpRequestMessage(HttpMethod.Get, path);
        if (key is not null)
        {
            request.Headers.Add("X-API-Key", key);
        }

        return await _facade.Http.SendAsync(request);
    }

    private static async Task AssertWholeAsync(HttpResponseMessage answer)
    {
        Assert.Equal(HttpStatusCode.OK, answer.StatusCode);
        var bytes = await answer.Content.ReadAsByteArrayAsync();
        Assert.Equal((600 * 1024) + 3, bytes.Length);
        Assert.True(bytes.Index().All(b => b.Item == FakeWorld.Pattern(b.Index)));
    }
}
