using System.Globalization;
using System.Net;
using System.Net.Http.Headers;
using System.Net.Http.Json;
using System.Net.ServerSentEvents;
using System.Runtime.CompilerServices;
using System.Text;
using System.Text.Json.Nodes;
using Xunit;

namespace Sandbox.EndToEnd.Tests.Harness;

/// <summary>The HTTP API as a caller without our client library would use it: plain JSON and server-sent events.</summary>
public sealed class SandboxApi(HttpClient http)
{
    /// <summary>A host reports itself before it has tried out its backends.</summary>
    public static bool CanTakeSessions(JsonNode? host) => host!["backends"]!.AsArray().Any(b => b!["usable"]!.GetValue<bool>());

    /// <summary>Waits until what the hosts report is as wanted; fails with what they last said.</summary>
    public async Task UntilHostsAsync(Func<JsonArray, bool> wanted, TimeSpan patience)
    {
        for (var deadline = DateTime.UtcNow + patience; ;)
        {
            var hosts = (await GetAsync("/v1/hosts"))["hosts"]!.AsArray();
            if (wanted(hosts))
            {
                return;
            }

            Assert.True(DateTime.UtcNow < deadline, $"After {patience.TotalSeconds:0} s the hosts are: {hosts}");
            await Task.Delay(100);
        }
    }

    public async Task<JsonNode> CreateSessionAsync(JsonObject? body = null, string? idempotencyKey = null)
    {
        using var request = new HttpRequestMessage(HttpMethod.Post, "/v1/sessions?wait=60") { Content = JsonContent.Create(body ?? []) };
        if (idempotencyKey is not null)
        {
            request.Headers.Add("Idempotency-Key", idempotencyKey);
        }

        var session = await SendAsync(request, HttpStatusCode.Created);
        var id = Text(session, "id");
        for (var tries = 0; Text(session, "state") == "creating" && tries < 120; tries++)
        {
            await Task.Delay(500);
            session = await GetAsync($"/v1/sessions/{id}");
        }

        Assert.True(Text(session, "state") == "running", $"The session is {Text(session, "state")}: {session["cause"]}");
        return session;
    }

    public Task<JsonNode> GetAsync(string path) => SendAsync(new HttpRequestMessage(HttpMethod.Get, path), HttpStatusCode.OK);

    public Task<JsonNode> PostAsync(string path, object? body = null, HttpStatusCode expected = HttpStatusCode.OK) =>
        SendAsync(new HttpRequestMessage(HttpMethod.Post, path) { Content = body is null ? null : JsonContent.Create(body) }, expected);

    public Task<JsonNode> DeleteSessionAsync(string id) => SendAsync(new HttpRequestMessage(HttpMethod.Delete, $"/v1/sessions/{id}"), HttpStatusCode.OK);

    public Task<JsonNode> StartAsync(string session, JsonObject body) =>
        SendAsync(new HttpRequestMessage(HttpMethod.Post, $"/v1/sessions/{session}/executions") { Content = JsonContent.Create(body) }, HttpStatusCode.Created);

    public Task<JsonNode> StartShellAsync(string session, string command, double? timeoutSeconds = null) =>
        StartAsync(session, Without(new JsonObject { ["shell"] = command, ["timeoutSeconds"] = timeoutSeconds }));

    /// <summary>Runs a command line to its end.</summary>
    public async Task<Finished> ShellAsync(string session, string command, double? timeoutSeconds = null) =>
        await FinishAsync(session, Text(await StartShellAsync(session, command, timeoutSeconds), "id"));

    /// <summary>Runs a program to its end.</summary>
    public async Task<Finished> RunAsync(string session, JsonObject body) => await FinishAsync(session, Text(await StartAsync(session, body), "id"));

    public async Task<Finished> FinishAsync(string session, string execution)
    {
        var events = new List<OutputItem>();
        await foreach (var item in FollowAsync(session, execution))
        {
            events.Add(item);
        }

        return new Finished(execution, events);
    }

    public async Task SignalAsync(string session, string execution, string signal) =>
        await SendAsync(
            new HttpRequestMessage(HttpMethod.Post, $"/v1/sessions/{session}/executions/{execution}/signal") { Content = JsonContent.Create(new { signal }) },
            HttpStatusCode.NoContent);

    public async Task StdinAsync(string session, string execution, string text, bool eof = false) =>
        await SendAsync(
            new HttpRequestMessage(HttpMethod.Post, $"/v1/sessions/{session}/executions/{execution}/stdin?eof={(eof ? "true" : "false")}")
            {
                Content = new ByteArrayContent(Encoding.UTF8.GetBytes(text)) { Headers = { ContentType = new MediaTypeHeaderValue("application/octet-stream") } },
            },
            HttpStatusCode.NoContent);

    /// <summary>Follows the output by server-sent events until the exit event or cancellation.</summary>
    public async IAsyncEnumerable<OutputItem> FollowAsync(
        string session, string execution, long? lastEventId = null, [EnumeratorCancellation] CancellationToken cancellationToken = default)
    {
        using var request = new HttpRequestMessage(HttpMethod.Get, $"/v1/sessions/{session}/executions/{execution}/output");
        request.Headers.Accept.ParseAdd("text/event-stream");
        if (lastEventId is { } last)
        {
            request.Headers.Add("Last-Event-ID", last.ToString(CultureInfo.InvariantCulture));
        }

        using var answer = await http.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, cancellationToken);
        Assert.True(answer.IsSuccessStatusCode, $"{(int)answer.StatusCode}: {(answer.IsSuccessStatusCode ? "" : await answer.Content.ReadAsStringAsync(cancellationToken))}");
        await using var body = await answer.Content.ReadAsStreamAsync(cancellationToken);
        await foreach (var item in SseParser.Create(body).EnumerateAsync(cancellationToken))
        {
            var data = JsonNode.Parse(item.Data)!;
            yield return new OutputItem(long.Parse(item.EventId!, CultureInfo.InvariantCulture), item.EventType, data);
            if (item.EventType == "exit")
            {
                yield break;
            }
        }
    }

    public async Task UploadAsync(string session, string path, byte[] content) =>
        await SendAsync(
            new HttpRequestMessage(HttpMethod.Put, $"/v1/sessions/{session}/files/content?path={Uri.EscapeDataString(path)}") { Content = new ByteArrayContent(content) },
            HttpStatusCode.OK, HttpStatusCode.Created, HttpStatusCode.NoContent);

    public async Task<HttpResponseMessage> DownloadAsync(string session, string path) =>
        await http.GetAsync(new Uri($"/v1/sessions/{session}/files/content?path={Uri.EscapeDataString(path)}", UriKind.Relative));

    public async Task<JsonNode> SendAsync(HttpRequestMessage request, params HttpStatusCode[] expected)
    {
        using (request)
        using (var answer = await http.SendAsync(request))
        {
            var text = await answer.Content.ReadAsStringAsync();
            Assert.True(expected.Contains(answer.StatusCode), $"{request.Method} {request.RequestUri} answered {(int)answer.StatusCode}: {text}");
            return text.Length == 0 ? new JsonObject() : JsonNode.Parse(text)!;
        }
    }

    public static string Text(JsonNode node, string name) => node[name]?.ToString() ?? throw new InvalidOperationException($"No '{name}' in {node}.");

    private static JsonObject Without(JsonObject body)
    {
        foreach (var name in body.Where(p => p.Value is null).Select(p => p.Key).ToArray())
        {
            body.Remove(name);
        }

        return body;
    }
}

/// <summary>One output event as it came over the wire.</summary>
public sealed record OutputItem(long Seq, string Kind, JsonNode Data)
{
    public byte[] Bytes => Data["base64"] is { } b ? Convert.FromBase64String(b.ToString()) : Encoding.UTF8.GetBytes(Data["text"]?.ToString() ?? "");
}

/// <summary>An execution followed to its end.</summary>
public sealed record Finished(string Id, IReadOnlyList<OutputItem> Events)
{
    public JsonNode Exit => Events[^1].Kind == "exit" ? Events[^1].Data : throw new InvalidOperationException("The output ended without an exit event.");

    public int ExitCode => (int)Exit["exitCode"]!;

    public string Reason => Exit["reason"]!.ToString();

    public string Stdout => Collect("stdout");

    public string Stderr => Collect("stderr");

    public string Notices => Collect("notice");

    public void AssertGapFree() => Assert.Equal(Enumerable.Range(1, Events.Count).Select(i => (long)i), Events.Select(e => e.Seq));

    private string Collect(string kind) => Encoding.UTF8.GetString([.. Events.Where(e => e.Kind == kind).SelectMany(e => e.Bytes)]);
}
