using System.Net;
using System.Text;
using System.Text.Json.Nodes;
using Sandbox.Abstractions;
using Sandbox.Gateway.Tests.Harness;
using Xunit;

namespace Sandbox.Gateway.Tests.Checkpoints;

/// <summary>Pause, resume, checkpoints, rollback and fork by HTTP.</summary>
public sealed class CheckpointTests : IAsyncLifetime
{
    private Facade _facade = null!;

    public async ValueTask InitializeAsync() => _facade = await Facade.StartAsync();

    public ValueTask DisposeAsync() => _facade.DisposeAsync();

    [Theory]
    [InlineData("pause", "", "paused")]
    [InlineData("pause", "?wait=0", "pausing")]
    [InlineData("resume", "", "running")]
    [InlineData("resume", "?wait=0", "resuming")]
    public async Task Pause_and_resume_wait_as_long_as_they_are_told(string verb, string query, string state)
    {
        var id = _facade.NewSession();

        var session = await SendAsync(HttpStatusCode.OK, HttpMethod.Post, $"/v1/sessions/{id}/{verb}{query}", null, "my-key");

        Assert.Equal(state, (string?)session["state"]);
        Assert.Equal("my-key", _facade.World.Noted(verb));
    }

    [Fact]
    public async Task A_session_that_could_not_be_paused_runs_on_and_says_why()
    {
        var id = _facade.NewSession();
        _facade.World.Outcomes[id] = _facade.World.Sessions[id] with { Cause = "the snapshot store is full" };

        var session = await SendAsync(HttpStatusCode.OK, HttpMethod.Post, $"/v1/sessions/{id}/pause");

        Assert.Equal(("running", "the snapshot store is full"), ((string?)session["state"], (string?)session["cause"]));
    }

    [Fact]
    public async Task What_does_not_suit_the_state_is_refused_in_the_words_of_the_session()
    {
        _facade.World.Fault = SandboxException.Conflict("It runs already.");

        using var answer = await _facade.PostAsync($"/v1/sessions/{_facade.NewSession()}/resume", "");

        Assert.Equal("It runs already.", (string?)(await Facade.ProblemAsync(answer, HttpStatusCode.Conflict, "conflict"))["detail"]);
    }

    [Fact]
    public async Task A_checkpoint_can_be_made_found_gone_back_to_and_deleted()
    {
        var id = _facade.NewSession();
        using var answer = await _facade.PostAsync($"/v1/sessions/{id}/checkpoints", """{"name": "before the migration"}""");
        var made = JsonNode.Parse(await answer.Content.ReadAsStringAsync())!;
        var path = answer.Headers.Location!.ToString();

        Assert.Equal(HttpStatusCode.Created, answer.StatusCode);
        Assert.Equal($"/v1/sessions/{id}/checkpoints/{made["id"]}", path);
        Assert.Equal(
            (1, "before the migration", "named", 1000, 0.12), ((int)made["number"]!, (string?)made["name"], (string?)made["kind"], (long)made["storedBytes"]!, (double)made["stopped"]!));
        Assert.Equal(made.ToJsonString(), (await _facade.GetAsync(path)).ToJsonString());
        Assert.Equal(made.ToJsonString(), (await _facade.GetAsync($"/v1/sessions/{id}/checkpoints"))["checkpoints"]![0]!.ToJsonString());

        Assert.Equal("running", (string?)(await SendAsync(HttpStatusCode.OK, HttpMethod.Post, path + "/rollback"))["state"]);
        Assert.Equal("resuming", (string?)(await SendAsync(HttpStatusCode.OK, HttpMethod.Post, path + "/rollback?wait=0"))["state"]);
        Assert.Equal((string?)made["id"], _facade.World.Noted("rollback"));

        await SendAsync(HttpStatusCode.NoContent, HttpMethod.Delete, path);
        foreach (var (method, gone) in new[] { (HttpMethod.Get, path), (HttpMethod.Delete, path), (HttpMethod.Post, path + "/rollback") })
        {
            Assert.Equal("notFound", (string?)(await SendAsync(HttpStatusCode.NotFound, method, gone))["code"]);
        }
    }

    [Theory]
    [InlineData(null)]
    [InlineData("{}")]
    [InlineData("""{"name": null}""")]
    public async Task A_checkpoint_needs_no_name(string? body)
    {
        await SendAsync(HttpStatusCode.Created, HttpMethod.Post, $"/v1/sessions/{_facade.NewSession()}/checkpoints", body, "key");

        Assert.Equal(((string?)null, "key"), _facade.World.Noted("checkpoint"));
    }

    [Fact]
    public async Task A_name_may_be_as_long_as_it_may_be()
    {
        var name = new string('ä', 100);

        var made = await SendAsync(HttpStatusCode.Created, HttpMethod.Post, $"/v1/sessions/{_facade.NewSession()}/checkpoints", new JsonObject { ["name"] = name }.ToJsonString());

        Assert.Equal(name, (string?)made["name"]);
    }

    [Theory]
    [InlineData(null, "", 1, "running")]
    [InlineData("""{"count": 3}""", "", 3, "running")]
    [InlineData("""{"count": 100}""", "?wait=0", 100, "creating")]
    public async Task Forks_are_answered_when_all_of_them_run(string? body, string query, int count, string state)
    {
        var sessions = (await SendAsync(HttpStatusCode.Created, HttpMethod.Post, $"/v1/sessions/{_facade.NewSession()}/fork{query}", body, "key"))["sessions"]!.AsArray();

        Assert.Equal(count, sessions.Select(s => (string?)s!["id"]).Distinct().Count());
        Assert.All(sessions, s => Assert.Equal(state, (string?)s!["state"]));
        Assert.Equal((count, "key"), _facade.World.Noted("fork"));
    }

    [Fact]
    public async Task Forks_that_were_made_are_said_even_if_waiting_for_them_fails()
    {
        var id = _facade.NewSession();
        _facade.World.WaitFault = new TimeoutException();

        var sessions = (await SendAsync(HttpStatusCode.Created, HttpMethod.Post, $"/v1/sessions/{id}/fork"))["sessions"]!.AsArray();

        Assert.Equal("creating", (string?)Assert.Single(sessions)!["state"]);
    }

    [Fact]
    public async Task A_session_says_where_it_comes_from_and_how_it_is_kept()
    {
        var id = _facade.NewSession();
        var origin = new SessionOrigin(SandboxIds.NewSession(), SandboxIds.NewCheckpoint(), DateTimeOffset.UnixEpoch);
        _facade.World.Sessions[id] = _facade.World.Sessions[id] with
        {
            IdleAction = IdleAction.Terminate,
            Checkpoints = new CheckpointPolicy { OnIdle = true, Every = TimeSpan.FromMinutes(5) },
            Origin = origin,
            Recoveries = [new SessionRecovery(DateTimeOffset.UnixEpoch, 2, "its host was lost", "everything", "nothing", 7)],
        };

        var session = await _facade.GetAsync($"/v1/sessions/{id}");

        Assert.Equal("terminate", (string?)session["idleAction"]);
        Assert.Equal("""{"onIdle":true,"everySeconds":300,"afterEachExecution":false}""", session["checkpoints"]!.ToJsonString());
        Assert.Equal((origin.SessionId, origin.CheckpointId), ((string?)session["origin"]!["sessionId"], (string?)session["origin"]!["checkpointId"]));
        Assert.Equal(7, (int)session["recoveries"]![0]!["checkpoint"]!);
    }

    [Fact]
    public async Task A_create_call_carries_what_it_says_about_idling_and_checkpoints()
    {
        await SendAsync(HttpStatusCode.Created, HttpMethod.Post, "/v1/sessions", """{"idleAction": "terminate", "checkpoints": {"everySeconds": 60, "afterEachExecution": true}}""");

        var request = (CreateSessionRequest)_facade.World.Noted("create")!;
        Assert.Equal((IdleAction.Terminate, new CheckpointPolicy { Every = TimeSpan.FromMinutes(1), AfterEachExecution = true }, null), (request.IdleAction, request.Checkpoints, request.From));
    }

    [Fact]
    public async Task A_session_can_begin_with_a_checkpoint_and_then_names_no_template()
    {
        var from = new CheckpointReference(SandboxIds.NewSession(), SandboxIds.NewCheckpoint());

        await SendAsync(HttpStatusCode.Created, HttpMethod.Post, "/v1/sessions", $$$"""{"from": {"sessionId": "{{{from.SessionId}}}", "checkpointId": "{{{from.CheckpointId}}}"}, "metadata": {"a": "b"}}""");

        var request = (CreateSessionRequest)_facade.World.Noted("create")!;
        Assert.Equal((from, CreateSessionRequest.DefaultTemplate, null), (request.From, request.Template, request.MemoryMiB));
        Assert.Equal((IdleAction.Pause, "b"), (request.IdleAction, request.Metadata["a"]));
    }

    private async Task<JsonNode> SendAsync(HttpStatusCode expected, HttpMethod method, string path, string? body = null, string? key = null)
    {
        using var request = new HttpRequestMessage(method, path) { Content = body is null ? null : new StringContent(body, Encoding.UTF8, "application/json") };
        if (key is not null)
        {
            request.Headers.Add("Idempotency-Key", key);
        }

        using var answer = await _facade.Http.SendAsync(request);
        var text = await answer.Content.ReadAsStringAsync();
        Assert.True(answer.StatusCode == expected, $"{method} {path}: {(int)answer.StatusCode} {text}");
        return text.Length == 0 ? new JsonObject() : JsonNode.Parse(text)!;
    }
}
