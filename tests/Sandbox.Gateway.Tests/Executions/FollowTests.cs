using System.Net;
using System.Net.ServerSentEvents;
using System.Net.WebSockets;
using System.Text;
using System.Text.Json.Nodes;
using Sandbox.Abstractions;
using Sandbox.Gateway.Tests.Harness;
using Xunit;

namespace Sandbox.Gateway.Tests.Executions;

/// <summary>Output by server-sent events and by WebSocket.</summary>
public sealed class FollowTests : IAsyncLifetime
{
    private Facade _facade = null!;

    public async ValueTask InitializeAsync() => _facade = await Facade.StartAsync(new GatewayOptions { Development = true, KeepAlive = TimeSpan.FromMilliseconds(50) });

    public ValueTask DisposeAsync() => _facade.DisposeAsync();

    [Fact]
    public async Task Events_come_while_the_execution_runs_and_end_with_its_exit()
    {
        var (session, execution, log) = _facade.NewExecution();
        var seen = new List<SseItem<string>>();

        await foreach (var item in EventsAsync($"/v1/sessions/{session}/executions/{execution}/output"))
        {
            seen.Add(item);
            if (seen.Count == 1)
            {
                log.Write(OutputKind.Stderr, "second");
                log.Write(OutputKind.Notice, "note\nof two lines");
                log.Exit(3);
            }
        }

        Assert.Equal(["stdout", "stderr", "notice", "exit"], seen.Select(s => s.EventType));
        Assert.Equal(["1", "2", "3", "4"], seen.Select(s => s.EventId));
        Assert.Equal("note\nof two lines", (string?)JsonNode.Parse(seen[2].Data)!["text"]);
        Assert.Equal(3, (int)JsonNode.Parse(seen[3].Data)!["exitCode"]!);
        Assert.Equal(TenantContext.Development, _facade.World.Noted("read-output"));
    }

    [Theory]
    [InlineData("3", "", 4)]
    [InlineData("", "?from=2", 2)]
    [InlineData("1", "?from=4", 2)]
    [InlineData("0", "", 1)]
    public async Task A_reconnecting_reader_goes_on_where_it_was(string lastEventId, string query, long first)
    {
        var (session, execution, log) = _facade.NewExecution();
        for (var i = 0; i < 4; i++)
        {
            log.Write(OutputKind.Stdout, $"line {i}\n");
        }

        log.Exit(0);
        var seen = new List<long>();
        await foreach (var item in EventsAsync($"/v1/sessions/{session}/executions/{execution}/output{query}", lastEventId))
        {
            seen.Add(long.Parse(item.EventId!, System.Globalization.CultureInfo.InvariantCulture));
        }

        Assert.Equal(Enumerable.Range((int)first, 5 - (int)first + 1).Select(i => (long)i), seen);
    }

    [Theory]
    [InlineData("", 2)]
    [InlineData("1", 2)]
    public async Task A_lost_execution_whose_log_has_no_exit_ends_with_the_one_its_session_knows(string lastEventId, long number)
    {
        var (session, execution, log) = _facade.NewExecution();
        log.Write(OutputKind.Stdout, "one");
        log.Cut();
        _facade.World.Exits[execution] = new ExecutionExit { Reason = ExitReason.Lost, ExitCode = 255, Message = "lost: its host was" };
        SseItem<string>? last = null;
        await foreach (var item in EventsAsync($"/v1/sessions/{session}/executions/{execution}/output", lastEventId))
        {
            last = item;
        }

        Assert.Equal(("exit", number.ToString(System.Globalization.CultureInfo.InvariantCulture)), (last!.Value.EventType, last.Value.EventId));
        Assert.Equal("lost: its host was", (string?)JsonNode.Parse(last.Value.Data)!["message"]);
    }

    [Fact]
    public async Task A_reader_that_has_seen_the_exit_gets_no_second_one()
    {
        var (session, execution, log) = _facade.NewExecution();
        log.Write(OutputKind.Exit, OutputJson.Write(_facade.World.Exits[execution] = new ExecutionExit { Reason = ExitReason.Lost, ExitCode = 255 }));
        await foreach (var item in EventsAsync($"/v1/sessions/{session}/executions/{execution}/output", "1"))
        {
            Assert.Fail(item.Data);
        }
    }

    [Theory]
    [InlineData("x", "")]
    [InlineData("-5", "")]
    [InlineData("99999999999999999999", "")]
    [InlineData("", "?from=0")]
    public async Task A_senseless_position_is_refused(string lastEventId, string query)
    {
        var (session, execution, _) = _facade.NewExecution();
        using var request = Request($"/v1/sessions/{session}/executions/{execution}/output{query}", lastEventId);

        using var answer = await _facade.Http.SendAsync(request);

        await Facade.ProblemAsync(answer, HttpStatusCode.BadRequest, "invalidArgument");
    }

    [Fact]
    public async Task Bytes_that_are_no_text_come_as_base64_and_cut_characters_are_not_harmed()
    {
        var (session, execution, log) = _facade.NewExecution();
        var euro = Encoding.UTF8.GetBytes("€");
        log.Write(OutputKind.Stdout, euro[..1]);
        log.Write(OutputKind.Stdout, euro[1..]);
        log.Write(OutputKind.Stdout, [0, 255, 10]);
        log.Exit(0);

        var bytes = new List<byte>();
        await foreach (var item in EventsAsync($"/v1/sessions/{session}/executions/{execution}/output"))
        {
            var data = JsonNode.Parse(item.Data)!;
            bytes.AddRange(data["base64"] is { } b ? Convert.FromBase64String((string)b!) : Encoding.UTF8.GetBytes((string?)data["text"] ?? ""));
        }

        Assert.Equal([.. euro, 0, 255, 10], bytes);
    }

    [Fact]
    public async Task A_silent_execution_is_given_comments()
    {
        var (session, execution, log) = _facade.NewExecution();
        using var request = Request($"/v1/sessions/{session}/executions/{execution}/output", "");
        using var answer = await _facade.Http.SendAsync(request, HttpCompletionOption.ResponseHeadersRead);
        using var reader = new StreamReader(await answer.Content.ReadAsStreamAsync());

        var line = await reader.ReadLineAsync();
        while (line is "" or null || !line.StartsWith(':'))
        {
            line = await reader.ReadLineAsync();
        }

        log.Exit(0);
        Assert.Contains("event: exit", await reader.ReadToEndAsync(), StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_reader_that_goes_away_stops_the_reading()
    {
        var (session, execution, log) = _facade.NewExecution();
        log.Write(OutputKind.Stdout, "x");
        using (var request = Request($"/v1/sessions/{session}/executions/{execution}/output", ""))
        using (var answer = await _facade.Http.SendAsync(request, HttpCompletionOption.ResponseHeadersRead))
        {
            using var reader = new StreamReader(await answer.Content.ReadAsStreamAsync());
            Assert.StartsWith("id: 1", await reader.ReadLineAsync(), StringComparison.Ordinal);
            Assert.Equal(1, _facade.World.Readers);
        }

        await Eventually.UntilAsync(() => _facade.World.Readers == 0);
    }

    [Fact]
    public async Task A_start_call_can_be_followed_at_once()
    {
        var session = _facade.NewSession();
        using var request = new HttpRequestMessage(HttpMethod.Post, $"/v1/sessions/{session}/executions")
        {
            Content = new StringContent("""{"shell":"x"}""", Encoding.UTF8, "application/json"),
            Headers = { { "Accept", "text/event-stream" } },
        };

        using var answer = await _facade.Http.SendAsync(request);

        Assert.Equal(HttpStatusCode.Created, answer.StatusCode);
        Assert.Contains("/executions/exe_", answer.Headers.Location!.ToString(), StringComparison.Ordinal);
        Assert.Contains("event: exit", await answer.Content.ReadAsStringAsync(), StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_page_is_plain_JSON()
    {
        var (session, execution, log) = _facade.NewExecution();
        log.Write(OutputKind.Stdout, "a");
        log.Exit(0);

        var page = await _facade.GetAsync($"/v1/sessions/{session}/executions/{execution}/output?from=2");

        Assert.Equal("exit", (string?)page["events"]![0]!["kind"]);
        Assert.Equal(3, (long)page["nextSeq"]!);
        Assert.True((bool)page["complete"]!);
    }

    [Fact]
    public async Task A_WebSocket_carries_input_in_and_output_out()
    {
        var (session, execution, log) = _facade.NewExecution();
        log.Write(OutputKind.Stdout, "ready");
        using var socket = await ConnectAsync(session, execution);
        Assert.Equal("ready", (string?)(await ReceiveAsync(socket))!["text"]);

        await SendAsync(socket, """{"type":"stdin","text":"typed"}""");
        Assert.Equal("typed", (string?)(await ReceiveAsync(socket))!["text"]);
        await SendAsync(socket, """{"type":"stdin","base64":"AP8="}""");
        Assert.Equal("AP8=", (string?)(await ReceiveAsync(socket))!["base64"]);
        await SendAsync(socket, """{"type":"resize","columns":100,"rows":30}""");
        await SendAsync(socket, """{"type":"signal","signal":"SIGTERM"}""");
        await SendAsync(socket, """{"type":"dance"}""");
        Assert.Equal("error", (string?)(await ReceiveAsync(socket))!["type"]);
        await SendAsync(socket, "no JSON");
        Assert.Equal("error", (string?)(await ReceiveAsync(socket))!["type"]);
        await SendAsync(socket, """{"type":"eof"}""");
        var exit = await ReceiveAsync(socket);

        Assert.Equal("exit", (string?)exit!["type"]);
        Assert.Equal(new TerminalSize(100, 30), _facade.World.Noted("resize"));
        Assert.Equal(15, _facade.World.Noted("signal"));
        Assert.Null(await ReceiveAsync(socket));
        Assert.Equal(WebSocketCloseStatus.NormalClosure, socket.CloseStatus);
    }

    [Fact]
    public async Task A_WebSocket_that_is_dropped_stops_the_reading()
    {
        var (session, execution, log) = _facade.NewExecution();
        log.Write(OutputKind.Stdout, "x");
        using (var socket = await ConnectAsync(session, execution))
        {
            await ReceiveAsync(socket);
            socket.Abort();
        }

        await Eventually.UntilAsync(() => _facade.World.Readers == 0);
    }

    [Theory]
    [InlineData("\"TERM\"", 15)]
    [InlineData("\"sigkill\"", 9)]
    [InlineData("2", 2)]
    public async Task Signals_go_by_name_or_number(string signal, int number)
    {
        var (session, execution, _) = _facade.NewExecution();

        using var answer = await _facade.PostAsync($"/v1/sessions/{session}/executions/{execution}/signal", $"{{\"signal\":{signal}}}");

        Assert.Equal(HttpStatusCode.NoContent, answer.StatusCode);
        Assert.Equal(number, _facade.World.Noted("signal"));
    }

    [Theory]
    [InlineData("\"NOPE\"")]
    [InlineData("0")]
    [InlineData("64")]
    [InlineData("null")]
    public async Task A_senseless_signal_is_refused(string signal)
    {
        var (session, execution, _) = _facade.NewExecution();

        using var answer = await _facade.PostAsync($"/v1/sessions/{session}/executions/{execution}/signal", $"{{\"signal\":{signal}}}");

        await Facade.ProblemAsync(answer, HttpStatusCode.BadRequest, "invalidArgument", "signal");
    }

    private static HttpRequestMessage Request(string path, string lastEventId)
    {
        var request = new HttpRequestMessage(HttpMethod.Get, path) { Headers = { { "Accept", "text/event-stream" } } };
        if (lastEventId.Length > 0)
        {
            request.Headers.TryAddWithoutValidation("Last-Event-ID", lastEventId);
        }

        return request;
    }

    private async IAsyncEnumerable<SseItem<string>> EventsAsync(string path, string lastEventId = "")
    {
        var session = path.Split('/')[3];
        if (_facade.World.Logs.First(l => l.Value.Session == session).Value is { Events.Count: 0 } log)
        {
            log.Write(OutputKind.Stdout, "first");
        }

        using var request = Request(path, lastEventId);
        using var answer = await _facade.Http.SendAsync(request, HttpCompletionOption.ResponseHeadersRead);
        Assert.Equal("text/event-stream", answer.Content.Headers.ContentType?.MediaType);
        await foreach (var item in SseParser.Create(await answer.Content.ReadAsStreamAsync()).EnumerateAsync())
        {
            yield return item;
        }
    }

    private async Task<ClientWebSocket> ConnectAsync(string session, string execution)
    {
        var socket = new ClientWebSocket();
        await socket.ConnectAsync(new UriBuilder(new Uri(_facade.Url, $"/v1/sessions/{session}/executions/{execution}/ws")) { Scheme = "ws" }.Uri, CancellationToken.None);
        return socket;
    }

    private static Task SendAsync(ClientWebSocket socket, string text) => socket.SendAsync(Encoding.UTF8.GetBytes(text), WebSocketMessageType.Text, true, CancellationToken.None);

    private static async Task<JsonNode?> ReceiveAsync(ClientWebSocket socket)
    {
        var buffer = new byte[64 * 1024];
        var part = await socket.ReceiveAsync(buffer, CancellationToken.None);
        return part.MessageType == WebSocketMessageType.Close ? null : JsonNode.Parse(buffer.AsSpan(0, part.Count));
    }
}
