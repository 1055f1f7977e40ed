using System.Diagnostics;
using System.Net.Http.Json;
using System.Net.ServerSentEvents;
using System.Text;
using System.Text.Json.Nodes;
using Sandbox.Bench.Benches;

namespace Sandbox.Bench.Serving;

/// <summary>The HTTP API as a caller uses it. Connections are kept, as any client keeps them.</summary>
internal sealed class SandboxHttp(Uri url) : IDisposable
{
    private static readonly TimeSpan Poll = TimeSpan.FromMilliseconds(2);
    private readonly HttpClient _http = new(new SocketsHttpHandler { MaxConnectionsPerServer = 256 }) { BaseAddress = url, Timeout = TimeSpan.FromMinutes(4) };

    /// <summary>Where the server is.</summary>
    public Uri Address => url;

    public void Dispose() => _http.Dispose();

    /// <summary>What keeps the server from being ready, or <see langword="null"/>.</summary>
    public async Task<string?> NotReadyReasonAsync(CancellationToken cancellationToken)
    {
        using var answer = await _http.GetAsync(new Uri("/readyz", UriKind.Relative), cancellationToken);
        return answer.IsSuccessStatusCode ? null : (await answer.Content.ReadFromJsonAsync<JsonObject>(cancellationToken))?["problem"]?.ToString() ?? "it is not ready";
    }

    /// <summary>Creates a session; returns when it runs.</summary>
    public Task<JsonNode> CreateAsync(CancellationToken cancellationToken) => CreateAsync(new JsonObject(), cancellationToken);

    /// <summary>Creates a session as asked; returns when it runs.</summary>
    public Task<JsonNode> CreateAsync(JsonObject request, CancellationToken cancellationToken) => SettledAsync(CallAsync(HttpMethod.Post, "/v1/sessions?wait=60", request, cancellationToken), "running", cancellationToken);

    /// <summary>Puts another egress policy in force; returns when it is.</summary>
    public Task<JsonNode> SetEgressAsync(string session, JsonObject policy, CancellationToken cancellationToken) => CallAsync(HttpMethod.Put, $"/v1/sessions/{session}/egress", policy, cancellationToken);

    /// <summary>Ends a session; returns when nothing of it is left.</summary>
    public async Task DeleteAsync(string session, CancellationToken cancellationToken) => await CallAsync(HttpMethod.Delete, $"/v1/sessions/{session}", null, cancellationToken);

    /// <summary>Ends a session whatever happened before; for clean-up, so not cancelled and never failing.</summary>
    public async Task DeleteQuietlyAsync(string session)
    {
        try
        {
            await DeleteAsync(session, CancellationToken.None);
        }
        catch (Exception e) when (e is BenchException or HttpRequestException or OperationCanceledException)
        {
            // The server that is stopped next takes it along.
        }
    }

    /// <summary>Pauses a session; returns when it is paused.</summary>
    public Task<JsonNode> PauseAsync(string session, CancellationToken cancellationToken) =>
        SettledAsync(CallAsync(HttpMethod.Post, $"/v1/sessions/{session}/pause", new JsonObject(), cancellationToken), "paused", cancellationToken);

    /// <summary>Resumes a session; returns when it runs.</summary>
    public Task<JsonNode> ResumeAsync(string session, CancellationToken cancellationToken) =>
        SettledAsync(CallAsync(HttpMethod.Post, $"/v1/sessions/{session}/resume", new JsonObject(), cancellationToken), "running", cancellationToken);

    /// <summary>Forks a session; returns the new ones' ids when all of them run.</summary>
    public async Task<IReadOnlyList<string>> ForkAsync(string session, int count, CancellationToken cancellationToken)
    {
        var answer = await CallAsync(HttpMethod.Post, $"/v1/sessions/{session}/fork", new JsonObject { ["count"] = count }, cancellationToken);
        var forks = answer["sessions"]!.AsArray().Select(s => s!).ToList();
        await Task.WhenAll(forks.Select(f => SettledAsync(Task.FromResult(f), "running", cancellationToken)));
        return [.. forks.Select(f => Text(f, "id"))];
    }

    /// <summary>Runs something to its end and follows it as server-sent events, in one call.</summary>
    public async Task<FollowedRun> RunAsync(string session, JsonObject body, Action<long, long>? onEvent, CancellationToken cancellationToken)
    {
        var run = new FollowedRun();
        using var request = new HttpRequestMessage(HttpMethod.Post, $"/v1/sessions/{session}/executions") { Content = Json(body) };
        request.Headers.Accept.ParseAdd("text/event-stream");
        using var answer = await CheckedAsync(request, HttpCompletionOption.ResponseHeadersRead, cancellationToken);
        run.Headers = Stopwatch.GetTimestamp();
        run.ExecutionId = answer.Headers.Location?.ToString().Split('/')[^1] ?? "";
        await using var stream = await answer.Content.ReadAsStreamAsync(cancellationToken);
        await foreach (var item in SseParser.Create(stream, run.Parse).EnumerateAsync(cancellationToken))
        {
            var now = Stopwatch.GetTimestamp();
            if (item.EventType == "stdout")
            {
                run.FirstByte = run.FirstByte == 0 ? now : run.FirstByte;
                onEvent?.Invoke(item.Data, now);
            }
            else if (item.EventType == "exit")
            {
                run.Ended = now;
                return run;
            }
        }

        throw new BenchException("the output of an execution ended without an exit");
    }

    /// <summary>Runs something that must succeed.</summary>
    public async Task<FollowedRun> RunWellAsync(string session, JsonObject body, CancellationToken cancellationToken)
    {
        var run = await RunAsync(session, body, null, cancellationToken);
        return run.ExitCode == 0 ? run : throw new BenchException($"{body.ToJsonString()} ended with exit code {run.ExitCode}: {run.Said}");
    }

    /// <summary>A program and its arguments as the body of a start call.</summary>
    public static JsonObject Argv(params string[] argv) => new() { ["argv"] = new JsonArray([.. argv.Select(a => JsonValue.Create(a))]) };

    /// <summary>Python code as the body of a start call.</summary>
    public static JsonObject Python(string code) => new() { ["code"] = code, ["language"] = "python" };

    /// <summary>A text member of an answer.</summary>
    public static string Text(JsonNode node, string name) => node[name]?.ToString() ?? throw new BenchException($"the server's answer has no '{name}': {node.ToJsonString()}");

    private async Task<JsonNode> SettledAsync(Task<JsonNode> call, string wanted, CancellationToken cancellationToken)
    {
        var session = await call;
        while (Text(session, "state") is "creating" or "pausing" or "resuming")
        {
            await Task.Delay(Poll, cancellationToken);
            session = await CallAsync(HttpMethod.Get, $"/v1/sessions/{Text(session, "id")}", null, cancellationToken);
        }

        return Text(session, "state") == wanted ? session : throw new BenchException($"a session is {Text(session, "state")} instead of {wanted}: {session["cause"]}");
    }

    private async Task<JsonNode> CallAsync(HttpMethod method, string path, JsonObject? body, CancellationToken cancellationToken)
    {
        using var request = new HttpRequestMessage(method, path) { Content = body is null ? null : Json(body) };
        using var answer = await CheckedAsync(request, HttpCompletionOption.ResponseContentRead, cancellationToken);
        return JsonNode.Parse(await answer.Content.ReadAsByteArrayAsync(cancellationToken))!;
    }

    private async Task<HttpResponseMessage> CheckedAsync(HttpRequestMessage request, HttpCompletionOption completion, CancellationToken cancellationToken)
    {
        var answer = await _http.SendAsync(request, completion, cancellationToken);
        if (answer.IsSuccessStatusCode)
        {
            return answer;
        }

        using (answer)
        {
            throw new BenchException($"{request.Method} {request.RequestUri}: {(int)answer.StatusCode} {await answer.Content.ReadAsStringAsync(cancellationToken)}");
        }
    }

    private static StringContent Json(JsonObject body) => new(body.ToJsonString(), Encoding.UTF8, "application/json");
}
