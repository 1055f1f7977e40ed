using System.Net;
using System.Net.Http.Json;
using System.Text.Json.Nodes;
using Sandbox.Abstractions;
using Sandbox.E2b.Tests.Harness;
using Xunit;

namespace Sandbox.E2b.Tests.Interpreter;

/// <summary>Code in contexts, with lines of JSON as its answer.</summary>
public sealed class CodeTests : IAsyncLifetime
{
    private E2bServer _server = null!;

    public async ValueTask InitializeAsync()
    {
        _server = await E2bServer.StartAsync(TimeSpan.FromMilliseconds(50));
        _server.Http.DefaultRequestHeaders.Add("E2b-Sandbox-Port", "49999");
    }

    public ValueTask DisposeAsync() => _server.DisposeAsync();

    [Fact]
    public async Task Output_results_and_errors_become_lines()
    {
        var mime = new Dictionary<string, string>
        {
            ["text/plain"] = "'hi'",
            ["image/png"] = "aGk=",
            ["application/json"] = """{"a":1}""",
            ["application/vnd.sandbox.chart+json"] = "no json",
            ["application/x-other"] = "o",
        };
        _server.Sandbox.Output.AddRange(
        [
            (OutputKind.Stdout, [0xc3]),
            (OutputKind.Stdout, [0xa9, (byte)'\n']),
            (OutputKind.Result, OutputJson.Write(new RichResultData(mime, true, 4))),
            (OutputKind.CodeError, OutputJson.Write(new CodeErrorData("ValueError", "bad", "trace"))),
        ]);
        _server.Sandbox.Exit = new ExecutionExit { Reason = ExitReason.Exited, ExitCode = 1 };

        var lines = await ExecuteAsync("""{"code":"x","language":"js","env_vars":{"A":"1"}}""");

        Assert.Equal(
            [
                """{"type":"stdout","text":"\u00E9\n","timestamp":0}""",
                """{"type":"result","text":"hi","png":"aGk=","json":{"a":1},"chart":"no json","extra":{"application/x-other":"o"},"is_main_result":true}""",
                """{"type":"number_of_executions","execution_count":4}""",
                """{"type":"error","name":"ValueError","value":"bad","traceback":"trace"}""",
                """{"type":"end_of_execution"}""",
            ],
            lines);
        var started = Assert.Single(_server.Sandbox.Started);
        Assert.Equal(("x", "javascript", "1"), (started.Code, started.Language, started.Env["A"]));
    }

    [Fact]
    public async Task An_end_that_the_code_did_not_choose_is_an_error()
    {
        _server.Sandbox.Exit = new ExecutionExit { Reason = ExitReason.OutOfMemory, ExitCode = 137, Signal = 9, ContextLost = true, Message = "out of memory" };
        var lines = await ExecuteAsync("""{"code":"x","context_id":null}""");
        Assert.Equal(["""{"type":"error","name":"ContextLost","value":"out of memory","traceback":""}""", """{"type":"end_of_execution"}"""], lines);
    }

    [Fact]
    public async Task Who_leaves_interrupts_his_code_and_is_kept_alive_until_then()
    {
        using (var answer = await _server.Http.SendAsync(new HttpRequestMessage(HttpMethod.Post, "/execute") { Content = Json("""{"code":"while True: pass"}""") }, HttpCompletionOption.ResponseHeadersRead))
        {
            using var reader = new StreamReader(await answer.Content.ReadAsStreamAsync());
            Assert.Equal("""{"type":"keepalive"}""", await reader.ReadLineAsync());
        }

        using var deadline = new CancellationTokenSource(TimeSpan.FromSeconds(60));
        while (_server.Sandbox.Calls.IsEmpty)
        {
            await Task.Delay(10, deadline.Token);
        }

        Assert.Equal(["signal 2"], _server.Sandbox.Calls);
    }

    [Theory]
    [InlineData("""{"code":"x","language":"r"}""", HttpStatusCode.BadRequest)]
    [InlineData("""{"code":"x","context_id":"nope"}""", HttpStatusCode.NotFound)]
    [InlineData("{}", HttpStatusCode.BadRequest)]
    public async Task What_cannot_be_run_is_refused(string body, HttpStatusCode status)
    {
        using var answer = await _server.Http.PostAsync("/execute", Json(body));
        Assert.Equal(status, answer.StatusCode);
        Assert.Equal((int)status, (int)(await answer.Content.ReadFromJsonAsync<JsonNode>())!["code"]!);
    }

    [Fact]
    public async Task Contexts_are_made_listed_and_removed()
    {
        using var made = await _server.Http.PostAsync("/contexts", Json("""{"language":"bash","cwd":"/tmp"}"""));
        var context = await made.Content.ReadFromJsonAsync<JsonNode>();
        Assert.Equal(("bash", "/tmp"), ((string?)context!["language"], (string?)context["cwd"]));
        Assert.Equal("""[{"id":"ctx","language":"python","cwd":"/"}]""", await _server.Http.GetStringAsync("/contexts"));
        Assert.Equal(HttpStatusCode.NoContent, (await _server.Http.DeleteAsync("/contexts/ctx")).StatusCode);
        Assert.Equal(HttpStatusCode.NotFound, (await _server.Http.PostAsync("/contexts/none/restart", null)).StatusCode);
        _server.Sandbox.State = SessionState.Paused;
        Assert.Equal(HttpStatusCode.BadGateway, (await _server.Http.PostAsync("/contexts/none/restart", null)).StatusCode);
    }

    private async Task<List<string>> ExecuteAsync(string body)
    {
        using var answer = await _server.Http.PostAsync("/execute", Json(body));
        var text = await answer.Content.ReadAsStringAsync();
        return [.. text.Split('\n', StringSplitOptions.RemoveEmptyEntries).Where(l => !l.Contains("keepalive", StringComparison.Ordinal))];
    }

    private static StringContent Json(string json) => new(json, System.Text.Encoding.UTF8, "application/json");
}
