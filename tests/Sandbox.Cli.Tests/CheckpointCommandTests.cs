using System.Text.Json.Nodes;
using Sandbox.Cli.Api;
using Sandbox.Cli.Commands;
using Xunit;

namespace Sandbox.Cli.Tests;

/// <summary>What the commands about pausing and checkpoints ask of a server, and what they say of its answers.</summary>
public sealed class CheckpointCommandTests : IAsyncLifetime
{
    private const string Checkpoints = """
        {"checkpoints": [
          {"id": "chk_a", "number": 1, "kind": "pause", "createdAt": "2026-01-01T00:00:00Z", "storedBytes": 1048576, "stopped": 0.1204},
          {"id": "chk_b", "number": 2, "name": "1", "kind": "named", "createdAt": "2026-01-02T00:00:00Z", "storedBytes": 10, "stopped": 0.05},
          {"id": "chk_c", "number": 3, "name": "chk_a", "kind": "named", "createdAt": "2026-01-03T00:00:00Z", "storedBytes": 10, "stopped": 0.05}]}
        """;

    private CannedServer _server = null!;

    public async ValueTask InitializeAsync() => _server = await CannedServer.StartAsync();

    public ValueTask DisposeAsync() => _server.DisposeAsync();

    [Theory]
    [InlineData("chk_b", "chk_b")]
    [InlineData("chk_a", "chk_a")]
    [InlineData("1", "chk_b")]
    [InlineData("2", "chk_b")]
    [InlineData("3", "chk_c")]
    [InlineData("4", null)]
    [InlineData("", null)]
    public void A_checkpoint_is_named_by_id_name_or_number(string text, string? id) => Assert.Equal(id, CheckpointApi.Find(JsonNode.Parse(Checkpoints)!["checkpoints"]!.AsArray(), text));

    [Theory]
    [InlineData("ses_1/chk_2", "ses_1", "chk_2")]
    [InlineData("ses_1/a/b", "ses_1", "a/b")]
    public void An_origin_is_a_session_and_a_checkpoint(string text, string session, string checkpoint) => Assert.Equal((session, checkpoint), CreateSessionCommand.Origin(text));

    [Fact]
    public async Task A_pause_is_waited_for_and_said_on_standard_error()
    {
        _server.Answer("POST /v1/sessions/ses_1/pause", Session("pausing"));
        _server.Answer("GET /v1/sessions/ses_1", Session("pausing"));
        _server.Answer("GET /v1/sessions/ses_1", Session("paused"));

        var (code, output, error) = await RunAsync("pause", "ses_1");

        Assert.Equal((0, ""), (code, output));
        Assert.Contains("session ses_1 is paused, after ", error, StringComparison.Ordinal);
        Assert.Equal("POST /v1/sessions/ses_1/pause?wait=60", _server.Requests.First());
    }

    [Theory]
    [InlineData("pause", "running", "the store is full")]
    [InlineData("resume", "failed", "no host has its template")]
    public async Task What_did_not_come_about_is_an_error_with_the_cause(string verb, string state, string cause)
    {
        _server.Answer($"POST /v1/sessions/ses_1/{verb}", Session(state, cause));

        var (code, _, error) = await RunAsync(verb, "ses_1");

        Assert.Equal(125, code);
        Assert.Contains(cause, error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_checkpoint_prints_its_id_alone()
    {
        _server.Answer("POST /v1/sessions/ses_1/checkpoints", """{"id": "chk_1", "number": 4, "storedBytes": 2097152, "stopped": 0.12}""", 201);

        var (code, output, error) = await RunAsync("checkpoint", "ses_1", "--name", "before it all");

        Assert.Equal((0, "chk_1\n"), (code, output));
        Assert.Contains("checkpoint 4: 2 MiB stored; the session stood still for 120 ms", error, StringComparison.Ordinal);
        Assert.Equal("""POST /v1/sessions/ses_1/checkpoints {"name":"before it all"}""", Assert.Single(_server.Requests));
    }

    [Fact]
    public async Task Checkpoints_are_a_table_or_JSON()
    {
        _server.Answer("GET /v1/sessions/ses_1/checkpoints", Checkpoints);

        var (_, table, _) = await RunAsync("checkpoints", "ses_1");
        var (_, json, _) = await RunAsync("checkpoints", "ses_1", "--json");

        Assert.Contains("chk_a", table, StringComparison.Ordinal);
        Assert.Contains("1 MiB", table, StringComparison.Ordinal);
        Assert.Contains("120 ms", table, StringComparison.Ordinal);
        Assert.Equal(3, JsonNode.Parse(json)!["checkpoints"]!.AsArray().Count);
    }

    [Fact]
    public async Task A_rollback_takes_a_number()
    {
        _server.Answer("GET /v1/sessions/ses_1/checkpoints", Checkpoints);
        _server.Answer("POST /v1/sessions/ses_1/checkpoints/chk_c/rollback", Session("running"));

        var (code, _, error) = await RunAsync("rollback", "ses_1", "3");
        var (unknown, _, complaint) = await RunAsync("rollback", "ses_1", "nine");

        Assert.True(code == 0, error);
        Assert.Equal(1, unknown);
        Assert.Contains("no checkpoint 'nine'", complaint, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("running", 0)]
    [InlineData("failed", 125)]
    public async Task A_fork_prints_the_ids_of_all_and_says_which_do_not_run(string second, int exitCode)
    {
        _server.Answer("POST /v1/sessions/ses_1/fork", $$"""{"sessions": [{{Session("running", id: "ses_2")}}, {{Session(second, "no room", "ses_3")}}]}""", 201);

        var (code, output, error) = await RunAsync("fork", "ses_1", "--count", "2");

        Assert.Equal((exitCode, "ses_2\nses_3\n"), (code, output));
        Assert.Equal(exitCode != 0, error.Contains("ses_3 is failed: no room", StringComparison.Ordinal));
        Assert.Equal("""POST /v1/sessions/ses_1/fork?wait=60 {"count":2}""", Assert.Single(_server.Requests));
    }

    [Theory]
    [InlineData("create", "{}")]
    [InlineData("create --template node --memory 1G", """{"template":"node","memoryMiB":1024}""")]
    [InlineData("create --idle-action terminate --idle-timeout 5m", """{"idleTimeoutSeconds":300,"idleAction":"terminate"}""")]
    [InlineData("create --checkpoint-every 5m --checkpoint-on-idle --checkpoint-after-execution", """{"checkpoints":{"everySeconds":300,"onIdle":true,"afterEachExecution":true}}""")]
    [InlineData("create --from ses_1/3", """{"from":{"sessionId":"ses_1","checkpointId":"chk_c"}}""")]
    public async Task A_session_is_made_as_it_is_asked_for(string line, string body)
    {
        _server.Answer("GET /v1/sessions/ses_1/checkpoints", Checkpoints);
        _server.Answer("POST /v1/sessions", Session("running", id: "ses_9"), 201);

        var (code, output, error) = await RunAsync(line.Split(' '));

        Assert.True(code == 0, error);
        Assert.Equal("ses_9\n", output);
        Assert.Equal("POST /v1/sessions?wait=60 " + body, _server.Requests.Last());
    }

    [Theory]
    [InlineData("paused", false)]
    [InlineData("running", true)]
    public async Task Showing_a_session_never_wakes_it(string state, bool asked)
    {
        _server.Answer("GET /v1/sessions/ses_1", Session(state, "idle for 30 minutes"));
        _server.Answer("GET /v1/sessions/ses_1/executions", """{"executions": [{"id": "exe_1", "state": "running", "title": "sleep"}]}""");
        _server.Answer("GET /v1/sessions/ses_1/metrics", """{"code": "conflict", "detail": "it is paused"}""", 409);

        var (code, output, error) = await RunAsync("show", "ses_1");

        Assert.True(code == 0, error);
        Assert.Contains("idle for 30 minutes", output, StringComparison.Ordinal);
        Assert.Equal(asked ? ["GET /v1/sessions/ses_1/metrics?wake=false"] : [], _server.Requests.Where(r => r.Contains("metrics", StringComparison.Ordinal)));
    }

    [Theory]
    [InlineData("exec --no-wake ses_1 ls", true)]
    [InlineData("exec ses_1 ls", false)]
    [InlineData("cp --no-wake ses_1:a b", true)]
    public async Task A_paused_session_is_left_alone_if_that_is_asked(string line, bool left)
    {
        foreach (var request in new[] { "POST /v1/sessions/ses_1/executions", "GET /v1/sessions/ses_1/files/stat" })
        {
            _server.Answer(request, """{"code": "conflict", "detail": "Session ses_1 is paused."}""", 409);
        }

        var (code, _, error) = await RunAsync(line.Split(' '));

        Assert.Equal(125, code);
        Assert.Contains("is paused", error, StringComparison.Ordinal);
        Assert.Equal(left, Assert.Single(_server.Requests).EndsWith(" no-wake", StringComparison.Ordinal));
    }

    private static string Session(string state, string? cause = null, string id = "ses_1") => new JsonObject { ["id"] = id, ["state"] = state, ["cause"] = cause }.ToJsonString();

    /// <summary>A session command against the server; the server's address comes first, where all commands take it.</summary>
    private Task<(int ExitCode, string Output, string Error)> RunAsync(params string[] line) => SandboxProgram.RunAsync(["session", line[0], "--server", _server.Url, .. line[1..]]);
}
