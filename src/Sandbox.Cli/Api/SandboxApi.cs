using System.Globalization;
using System.Net.Http.Headers;
using System.Net.Http.Json;
using System.Net.WebSockets;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;

namespace Sandbox.Cli.Api;

/// <summary>The HTTP API, as the commands need it.</summary>
internal sealed class SandboxApi : IDisposable
{
    private readonly HttpClient _http;
    private readonly Dictionary<string, string> _headers = [];

    /// <summary>Makes a client.</summary>
    /// <param name="url">The server.</param>
    /// <param name="apiKey">Key, where one is needed.</param>
    /// <param name="mayWake">Whether its calls may resume a paused session.</param>
    public SandboxApi(Uri url, string? apiKey, bool mayWake = true)
    {
        Url = url;
        _http = new HttpClient(new SocketsHttpHandler { ConnectTimeout = TimeSpan.FromSeconds(10) }) { BaseAddress = url, Timeout = Timeout.InfiniteTimeSpan };
        if (apiKey is not null)
        {
            _headers["X-API-Key"] = apiKey;
        }

        if (!mayWake)
        {
            _headers["Sandbox-Wake"] = "false";
        }

        foreach (var (name, value) in _headers)
        {
            _http.DefaultRequestHeaders.Add(name, value);
        }

        Output = new OutputFollower(_http);
        Files = new FileApi(this);
        Checkpoints = new CheckpointApi(this);
    }

    public Uri Url { get; }

    public OutputFollower Output { get; }

    public FileApi Files { get; }

    public CheckpointApi Checkpoints { get; }

    public void Dispose() => _http.Dispose();

    /// <summary>Whether a Sandbox server answers there at all.</summary>
    public static async Task<bool> AnswersAsync(Uri url, TimeSpan patience, CancellationToken cancellationToken)
    {
        using var http = new HttpClient { Timeout = patience };
        try
        {
            var answer = await http.GetFromJsonAsync<JsonObject>(new Uri(url, "/healthz"), cancellationToken);
            return answer?["status"]?.ToString() == "alive";
        }
        catch (Exception e) when (e is HttpRequestException or JsonException or NotSupportedException or InvalidOperationException || (e is OperationCanceledException && !cancellationToken.IsCancellationRequested))
        {
            return false;
        }
    }

    /// <summary>What keeps the server from being ready, or <see langword="null"/>.</summary>
    public async Task<string?> NotReadyReasonAsync(CancellationToken cancellationToken)
    {
        using var answer = await _http.GetAsync(new Uri("/readyz", UriKind.Relative), cancellationToken);
        var body = await answer.Content.ReadFromJsonAsync<JsonObject>(cancellationToken);
        return answer.IsSuccessStatusCode ? null : body?["problem"]?.ToString() ?? "it is not ready";
    }

    /// <summary>Creates a session and waits until it runs.</summary>
    public async Task<JsonNode> CreateSessionAsync(JsonObject body, CancellationToken cancellationToken)
    {
        var session = await SettleAsync(await SendAsync(HttpMethod.Post, "/v1/sessions?wait=60", body, cancellationToken, Guid.NewGuid().ToString("N")), cancellationToken);
        return Text(session, "state") == "running"
            ? session
            : throw new UserException($"the session is {Text(session, "state")}: {session["cause"]}", ExitCodes.SandboxFailed);
    }

    /// <summary>The session as soon as it is on its way no longer.</summary>
    public async Task<JsonNode> SettleAsync(JsonNode session, CancellationToken cancellationToken)
    {
        while (Text(session, "state") is "creating" or "pausing" or "resuming")
        {
            await Task.Delay(TimeSpan.FromMilliseconds(500), cancellationToken);
            session = await GetAsync($"/v1/sessions/{Text(session, "id")}", cancellationToken);
        }

        return session;
    }

    public Task<JsonNode> GetAsync(string path, CancellationToken cancellationToken) => SendAsync(HttpMethod.Get, path, null, cancellationToken);

    public Task<JsonNode> DeleteSessionAsync(string session, CancellationToken cancellationToken) => SendAsync(HttpMethod.Delete, $"/v1/sessions/{Escape(session)}", null, cancellationToken);

    public Task<JsonNode> StartAsync(string session, JsonObject body, CancellationToken cancellationToken) =>
        SendAsync(HttpMethod.Post, $"/v1/sessions/{Escape(session)}/executions", body, cancellationToken, Guid.NewGuid().ToString("N"));

    public Task SignalAsync(string session, string execution, string signal, CancellationToken cancellationToken) =>
        SendAsync(HttpMethod.Post, $"/v1/sessions/{Escape(session)}/executions/{execution}/signal", new JsonObject { ["signal"] = signal }, cancellationToken);

    public async Task StdinAsync(string session, string execution, ReadOnlyMemory<byte> data, bool eof, CancellationToken cancellationToken)
    {
        using var request = new HttpRequestMessage(HttpMethod.Post, $"/v1/sessions/{Escape(session)}/executions/{execution}/stdin?eof={(eof ? "true" : "false")}")
        {
            Content = new ReadOnlyMemoryContent(data) { Headers = { ContentType = new MediaTypeHeaderValue("application/octet-stream") } },
        };
        using var answer = await SendCheckedAsync(request, HttpCompletionOption.ResponseContentRead, cancellationToken);
    }

    /// <summary>Opens an execution's WebSocket.</summary>
    public async Task<ClientWebSocket> ConnectAsync(string session, string execution, CancellationToken cancellationToken)
    {
        var socket = new ClientWebSocket();
        foreach (var (name, value) in _headers)
        {
            socket.Options.SetRequestHeader(name, value);
        }

        var url = new UriBuilder(new Uri(Url, $"/v1/sessions/{Escape(session)}/executions/{execution}/ws")) { Scheme = Url.Scheme == "https" ? "wss" : "ws" };
        await socket.ConnectAsync(url.Uri, cancellationToken);
        return socket;
    }

    /// <summary>Sends a request with a JSON body and reads the JSON answer.</summary>
    public async Task<JsonNode> SendAsync(HttpMethod method, string path, JsonObject? body, CancellationToken cancellationToken, string? idempotencyKey = null)
    {
        using var request = new HttpRequestMessage(method, path);
        if (body is not null)
        {
            request.Content = new StringContent(body.ToJsonString(), Encoding.UTF8, "application/json");
        }

        if (idempotencyKey is not null)
        {
            request.Headers.Add("Idempotency-Key", idempotencyKey);
        }

        using var answer = await SendCheckedAsync(request, HttpCompletionOption.ResponseContentRead, cancellationToken);
        var text = await answer.Content.ReadAsStringAsync(cancellationToken);
        return text.Length == 0 ? new JsonObject() : JsonNode.Parse(text)!;
    }

    /// <summary>Sends a request and turns every refusal into an <see cref="ApiException"/>.</summary>
    public async Task<HttpResponseMessage> SendCheckedAsync(HttpRequestMessage request, HttpCompletionOption completion, CancellationToken cancellationToken)
    {
        HttpResponseMessage answer;
        try
        {
            answer = await _http.SendAsync(request, completion, cancellationToken);
        }
        catch (HttpRequestException e) when (e.HttpRequestError is HttpRequestError.ConnectionError or HttpRequestError.NameResolutionError)
        {
            throw new UserException($"no server answers at {Url}. Start one with: sandbox serve --dev", ExitCodes.SandboxFailed);
        }

        if (answer.IsSuccessStatusCode)
        {
            return answer;
        }

        using (answer)
        {
            throw await ReadErrorAsync(answer, cancellationToken);
        }
    }

    /// <summary>A text member of an answer.</summary>
    public static string Text(JsonNode node, string name) =>
        node[name]?.ToString() ?? throw new UserException($"the server's answer has no '{name}'; is it a Sandbox server of this version?", ExitCodes.SandboxFailed);

    /// <summary>A part of a path, made safe.</summary>
    public static string Escape(string part) => Uri.EscapeDataString(part);

    internal static async Task<Exception> ReadErrorAsync(HttpResponseMessage answer, CancellationToken cancellationToken)
    {
        var text = await answer.Content.ReadAsStringAsync(cancellationToken);
        try
        {
            if (JsonNode.Parse(text) is JsonObject problem && problem["detail"] is { } detail)
            {
                return new ApiException(answer.StatusCode, problem["code"]?.ToString() ?? "", problem["field"]?.ToString() is { Length: > 0 } field ? field : null, detail.ToString());
            }
        }
        catch (JsonException)
        {
            // Not ours; say what it was.
        }

        return new ApiException(answer.StatusCode, "", null, string.Create(CultureInfo.InvariantCulture, $"the server answered {(int)answer.StatusCode} {answer.StatusCode}"));
    }
}
