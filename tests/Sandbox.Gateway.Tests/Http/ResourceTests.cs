using System.Net;
using System.Text.Json.Nodes;
using Sandbox.Abstractions;
using Sandbox.Gateway.Tests.Harness;
using Xunit;

namespace Sandbox.Gateway.Tests.Http;

/// <summary>Sessions, health, and the document that describes it all.</summary>
public sealed class ResourceTests : IAsyncLifetime
{
    private Facade _facade = null!;

    public async ValueTask InitializeAsync() => _facade = await Facade.StartAsync();

    public ValueTask DisposeAsync() => _facade.DisposeAsync();

    [Theory]
    [InlineData(30, "running")]
    [InlineData(0, "creating")]
    public async Task A_create_call_waits_as_long_as_it_is_told(int wait, string state)
    {
        using var answer = await _facade.PostAsync($"/v1/sessions?wait={wait}", """{"vcpus":2,"memoryMiB":256,"idleTimeoutSeconds":90.5,"env":{"A":"b"},"untrusted":false}""");
        var session = JsonNode.Parse(await answer.Content.ReadAsStringAsync())!;

        Assert.Equal(HttpStatusCode.Created, answer.StatusCode);
        Assert.Equal(state, (string?)session["state"]);
        Assert.Equal($"/v1/sessions/{session["id"]}", answer.Headers.Location!.ToString());
        var request = (CreateSessionRequest)_facade.World.Noted("create")!;
        Assert.Equal((2, 256, 90.5, "b", false), (request.Vcpus, request.MemoryMiB, request.IdleTimeout!.Value.TotalSeconds, request.Env["A"], request.Untrusted));
    }

    [Fact]
    public async Task The_same_idempotency_key_is_the_same_session()
    {
        var ids = new HashSet<string>();
        foreach (var key in new[] { "one", "one", "two" })
        {
            using var request = new HttpRequestMessage(HttpMethod.Post, "/v1/sessions") { Headers = { { "Idempotency-Key", key } } };
            using var answer = await _facade.Http.SendAsync(request);
            ids.Add((string)JsonNode.Parse(await answer.Content.ReadAsStringAsync())!["id"]!);
        }

        Assert.Equal(2, ids.Count);
    }

    [Fact]
    public async Task A_list_comes_in_pages_without_loss_or_repeat_and_can_be_filtered()
    {
        for (var i = 0; i < 25; i++)
        {
            _facade.World.NewSession(SandboxIds.NewSession(), TenantContext.Development, i % 5 == 0 ? SessionState.Paused : SessionState.Running, new() { ["n"] = (i % 2).ToString(System.Globalization.CultureInfo.InvariantCulture) });
        }

        _facade.World.NewSession(SandboxIds.NewSession(), "other");
        var seen = new List<string>();
        var cursor = "";
        do
        {
            var page = await _facade.GetAsync($"/v1/sessions?limit=7&cursor={cursor}");
            seen.AddRange(page["sessions"]!.AsArray().Select(s => (string)s!["id"]!));
            cursor = (string?)page["nextCursor"] ?? "";
        }
        while (cursor.Length > 0);

        Assert.Equal(_facade.World.Sessions.Values.Where(s => s.Tenant == "dev").OrderBy(s => s.CreatedAt).Select(s => s.Id), seen);
        Assert.Equal(5, (await _facade.GetAsync("/v1/sessions?state=paused"))["sessions"]!.AsArray().Count);
        Assert.Equal(12, (await _facade.GetAsync("/v1/sessions?metadata.n=1"))["sessions"]!.AsArray().Count);
    }

    [Fact]
    public async Task Readiness_says_what_is_missing()
    {
        Assert.Equal("ready", (string?)(await _facade.GetAsync("/readyz"))["status"]);

        _facade.World.Hosts[0] = FakeWorld.Report(usable: false);
        using var answer = await _facade.Http.GetAsync("/readyz");

        Assert.Equal(HttpStatusCode.ServiceUnavailable, answer.StatusCode);
        Assert.Contains("because", await answer.Content.ReadAsStringAsync(), StringComparison.Ordinal);
    }

    [Fact]
    public async Task The_document_describes_every_address()
    {
        var document = await _facade.GetAsync("/openapi/v1.json");
        var paths = document["paths"]!.AsObject();

        Assert.Contains("/v1/sessions/{id}/executions/{execution}/output", paths.Select(p => p.Key));
        Assert.All(paths.SelectMany(p => p.Value!.AsObject()), operation => Assert.NotEmpty((string?)operation.Value!["summary"] ?? ""));
    }
}
