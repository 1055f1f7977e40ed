using System.Net.Http.Json;
using System.Net.Sockets;
using System.Text.Json.Nodes;

namespace Sandbox.EndToEnd.Tests.Crash;

/// <summary>What came of a call.</summary>
internal enum Outcome
{
    /// <summary>A 2xx: it was done.</summary>
    Done,

    /// <summary>A 4xx: it was refused and changed nothing.</summary>
    Refused,

    /// <summary>The connection broke, or the answer was that trying again is safe: both are possible.</summary>
    Unknown,
}

internal sealed record Answer(Outcome Outcome, int Status, JsonNode Body)
{
    public bool Done => Outcome == Outcome.Done;

    public string State => Body["state"]?.ToString() ?? "";

    public override string ToString() => Outcome == Outcome.Unknown && Status == 0 ? "no answer" : $"{Status} {(Body["detail"] ?? Body["state"])?.ToString()}";
}

/// <summary>Calls that may break at any moment.</summary>
internal sealed class CrashClient(HttpClient http, Action<string> note)
{
    public Task<Answer> GetAsync(string path, KnownSession? session = null) => SendAsync(HttpMethod.Get, path, null, null, session);

    public Task<Answer> PostAsync(string path, JsonNode? body = null, string? key = null, KnownSession? session = null) => SendAsync(HttpMethod.Post, path, JsonContent.Create(body ?? new JsonObject()), key, session);

    public Task<Answer> DeleteAsync(string path, KnownSession? session = null) => SendAsync(HttpMethod.Delete, path, null, null, session);

    public Task<Answer> PutAsync(string path, byte[] content, KnownSession? session = null) => SendAsync(HttpMethod.Put, path, new ByteArrayContent(content), null, session);

    private async Task<Answer> SendAsync(HttpMethod method, string path, HttpContent? content, string? key, KnownSession? session)
    {
        var answer = await TrySendAsync(method, path, content, key);
        if (method != HttpMethod.Get || !answer.Done)
        {
            note($"{method} {path}: {answer}");
            session?.Note($"{method} {path[(path.IndexOf(session.Id, StringComparison.Ordinal) is var at and > 0 ? at + session.Id.Length : 0)..]}: {answer}");
        }

        return answer.Status == 500 ? throw new CrashViolationException($"{method} {path} answered 500, a fault of the server's: {answer.Body}", session) : answer;
    }

    private async Task<Answer> TrySendAsync(HttpMethod method, string path, HttpContent? content, string? key)
    {
        using var request = new HttpRequestMessage(method, path) { Content = content };
        if (key is not null)
        {
            request.Headers.Add("Idempotency-Key", key);
        }

        try
        {
            using var answer = await http.SendAsync(request);
            var text = await answer.Content.ReadAsStringAsync();
            var status = (int)answer.StatusCode;
            var body = answer.Content.Headers.ContentType?.MediaType?.EndsWith("json", StringComparison.Ordinal) == true ? JsonNode.Parse(text)! : new JsonObject { ["text"] = text };
            return new Answer(status < 300 ? Outcome.Done : status < 500 ? Outcome.Refused : Outcome.Unknown, status, body);
        }
        catch (Exception e) when (e is HttpRequestException or TaskCanceledException or IOException or SocketException)
        {
            return new Answer(Outcome.Unknown, 0, new JsonObject());
        }
    }
}
