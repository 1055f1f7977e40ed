using System.Text;
using Sandbox.Abstractions;
using Sandbox.E2b.Tests.Harness;
using Xunit;

namespace Sandbox.E2b.Tests.Envd;

/// <summary>Processes by Connect-RPC.</summary>
public sealed class ProcessTests : IAsyncLifetime
{
    private const string Echo = """{"process":{"cmd":"/bin/bash","args":["-l","-c","echo"],"envs":{"A":"1"},"cwd":"/tmp"},"tag":"mine","stdin":false,"unknownToUs":1}""";
    private E2bServer _server = null!;

    public async ValueTask InitializeAsync() => _server = await E2bServer.StartAsync(TimeSpan.FromMilliseconds(50));

    public ValueTask DisposeAsync() => _server.DisposeAsync();

    [Fact]
    public async Task A_stream_has_start_first_then_the_output_and_the_end_last()
    {
        _server.Sandbox.Output.AddRange([(OutputKind.Stdout, [0xc3]), (OutputKind.Stderr, "e"u8.ToArray()), (OutputKind.Notice, "capped"u8.ToArray())]);
        _server.Sandbox.Exit = new ExecutionExit { Reason = ExitReason.Exited, ExitCode = 3 };

        var all = await _server.AllAsync("process.Process/Start", Echo, ("Connect-Timeout-Ms", "9000"));

        Assert.Equal(
            [
                """{"event":{"start":{"pid":101}}}""",
                """{"event":{"data":{"stdout":"ww=="}}}""",
                """{"event":{"data":{"stderr":"ZQ=="}}}""",
                """{"event":{"data":{"stderr":"Y2FwcGVkCg=="}}}""",
                """{"event":{"end":{"exitCode":3,"exited":true,"status":"exit status 3","error":"exit status 3"}}}""",
                "{}",
            ],
            all.Select(m => m.ToJsonString()));
        var started = Assert.Single(_server.Sandbox.Started);
        Assert.Equal(["/bin/bash", "-l", "-c", "echo"], started.Argv!);
        Assert.Equal(("1", "/tmp", "mine", false, TimeSpan.FromSeconds(9)), (started.Env["A"], started.Cwd, started.Tag, started.OpenStdin, started.Timeout));
    }

    [Theory]
    [InlineData(ExitReason.Killed, 9, """{"exitCode":-1,"status":"signal: killed","error":"signal: killed"}""")]
    [InlineData(ExitReason.Lost, 9, """{"exitCode":-1,"status":"lost","error":"why"}""")]
    [InlineData(ExitReason.Exited, 0, """{"exited":true,"status":"exit status 0"}""")]
    public async Task An_end_says_how(ExitReason reason, int signal, string end)
    {
        _server.Sandbox.Exit = new ExecutionExit { Reason = reason, ExitCode = signal == 0 ? 0 : 137, Signal = signal, Message = "why" };
        var all = await _server.AllAsync("process.Process/Start", Echo);
        Assert.Equal(end, all[^2]["event"]!["end"]!.ToJsonString());
    }

    [Fact]
    public async Task Silence_is_filled_with_keep_alives_and_ended_by_the_deadline()
    {
        var all = await _server.AllAsync("process.Process/Start", Echo, ("Connect-Timeout-Ms", "600"));

        Assert.Contains("""{"event":{"keepalive":{}}}""", all.Select(m => m.ToJsonString()));
        Assert.Equal("deadline_exceeded", (string?)all[^1]["error"]!["code"]);
        Assert.Empty(_server.Sandbox.Calls);
    }

    [Fact]
    public async Task A_process_that_is_ended_by_its_time_ends_the_stream_with_that()
    {
        _server.Sandbox.Exit = new ExecutionExit { Reason = ExitReason.TimedOut, ExitCode = 143, Signal = 15 };
        var all = await _server.AllAsync("process.Process/Start", Echo);
        Assert.Equal("deadline_exceeded", (string?)all[^1]["error"]!["code"]);
    }

    [Fact]
    public async Task Processes_are_found_by_pid_and_tag_fed_resized_and_killed()
    {
        await BeginAsync(Echo);
        await BeginAsync("""{"process":{"cmd":"sh"},"pty":{"size":{"cols":80,"rows":24}}}""");

        var (_, list) = await _server.CallAsync("process.Process/List", "{}");
        Assert.Equal(
            """{"processes":[{"config":{"cmd":"/bin/bash","args":["-l","-c","echo"],"cwd":"/tmp"},"pid":101,"tag":"mine"},{"config":{"cmd":"sh"},"pid":102}]}""",
            list.ToJsonString());
        var large = Convert.ToBase64String(new byte[100_000]);
        foreach (var (procedure, body) in new[]
        {
            ("SendInput", """{"process":{"tag":"mine"},"input":{"stdin":"aGk="}}"""),
            ("SendInput", $$$"""{"process":{"pid":101},"input":{"stdin":"{{{large}}}"}}"""),
            ("CloseStdin", """{"process":{"pid":101}}"""),
            ("Update", """{"process":{"pid":102},"pty":{"size":{"cols":100,"rows":30}}}"""),
            ("SendSignal", """{"process":{"pid":102},"signal":"SIGNAL_SIGKILL"}"""),
        })
        {
            Assert.Equal((200, "{}"), await TextAsync(procedure, body));
        }

        Assert.Equal(["stdin hi False", "stdin 65536 False", "stdin 34464 False", "stdin  True", "resize 100x30", "signal 9"], _server.Sandbox.Calls);
    }

    [Theory]
    [InlineData("SendSignal", """{"process":{"pid":4711},"signal":"SIGNAL_SIGKILL"}""", 404, "not_found")]
    [InlineData("SendSignal", """{"process":{"pid":101},"signal":1}""", 400, "invalid_argument")]
    [InlineData("SendSignal", """{"signal":9}""", 400, "invalid_argument")]
    [InlineData("SendInput", """{"process":{"pid":101},"input":{"pty":"aGk="}}""", 400, "invalid_argument")]
    [InlineData("SendInput", """{"process":""", 400, "invalid_argument")]
    public async Task What_cannot_be_done_is_said_as_connect_says_it(string procedure, string body, int status, string code)
    {
        await BeginAsync(Echo);
        var (got, error) = await _server.CallAsync("process.Process/" + procedure, body);
        Assert.Equal((status, code), (got, (string?)error["code"]));
    }

    [Fact]
    public async Task Input_can_be_streamed()
    {
        await BeginAsync(Echo);
        byte[] body = [.. E2bServer.Frame(0, """{"start":{"process":{"pid":101}}}"""), .. E2bServer.Frame(0, """{"keepalive":{}}"""), .. E2bServer.Frame(0, """{"data":{"input":{"stdin":"aGk="}}}""")];
        await using var answer = await _server.StreamAsync("process.Process/StreamInput", body);
        Assert.Equal("{}", (await E2bServer.NextAsync(answer))!.ToJsonString());
        Assert.Equal("{}", (await E2bServer.NextAsync(answer))!.ToJsonString());
        Assert.Equal(["stdin hi False"], _server.Sandbox.Calls);
    }

    [Fact]
    public async Task A_sandbox_that_is_gone_is_unavailable_and_not_merely_without_the_process()
    {
        _server.Sandbox.State = SessionState.Terminated;
        var (status, error) = await _server.CallAsync("process.Process/SendSignal", """{"process":{"pid":1},"signal":9}""");
        Assert.Equal((503, "unavailable"), (status, (string?)error["code"]));
        var all = await _server.AllAsync("process.Process/Connect", """{"process":{"pid":1}}""");
        Assert.Equal("unavailable", (string?)Assert.Single(all)["error"]!["code"]);
    }

    private async Task BeginAsync(string json)
    {
        await using var stream = await _server.StreamAsync("process.Process/Start", E2bServer.Frame(0, json));
        Assert.NotNull((await E2bServer.NextAsync(stream))!["event"]!["start"]);
    }

    private async Task<(int Status, string Body)> TextAsync(string procedure, string json)
    {
        using var answer = await _server.Http.PostAsync("/process.Process/" + procedure, new StringContent(json, Encoding.UTF8, "application/json"));
        return ((int)answer.StatusCode, (await answer.Content.ReadAsStringAsync()).Replace(" ", "", StringComparison.Ordinal));
    }
}
