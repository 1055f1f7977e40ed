using System.Globalization;
using System.Net.ServerSentEvents;
using System.Runtime.CompilerServices;
using System.Text;
using System.Text.Json.Nodes;

namespace Sandbox.Cli.Api;

/// <summary>One output event.</summary>
internal sealed record OutputItem(long Seq, string Kind, JsonNode Data)
{
    /// <summary>Its bytes, for events that carry bytes.</summary>
    public byte[] Bytes => Data["base64"] is { } encoded ? Convert.FromBase64String(encoded.ToString()) : Encoding.UTF8.GetBytes(Data["text"]?.ToString() ?? "");
}

/// <summary>Follows output to its exit event; a connection that breaks is taken up again after the last event seen.</summary>
internal sealed class OutputFollower(HttpClient http)
{
    private const int MaxAttempts = 30;
    private static readonly TimeSpan Pause = TimeSpan.FromSeconds(1);

    public async IAsyncEnumerable<OutputItem> FollowAsync(string session, string execution, [EnumeratorCancellation] CancellationToken cancellationToken)
    {
        long seen = 0;
        for (var attempt = 0; ;)
        {
            await using var events = ConnectAsync(session, execution, seen, cancellationToken).GetAsyncEnumerator(cancellationToken);
            while (true)
            {
                try
                {
                    if (!await events.MoveNextAsync())
                    {
                        break;
                    }
                }
                catch (Exception e) when (e is HttpRequestException or IOException && !cancellationToken.IsCancellationRequested)
                {
                    break;
                }

                var item = events.Current;
                if (item.Seq <= seen)
                {
                    continue;
                }

                seen = item.Seq;
                attempt = 0;
                yield return item;
                if (item.Kind == "exit")
                {
                    yield break;
                }
            }

            if (++attempt == MaxAttempts)
            {
                throw new UserException($"the connection to the server was lost and did not come back; execution {execution} of {session} may still run", ExitCodes.SandboxFailed);
            }

            await Task.Delay(Pause, cancellationToken);
        }
    }

    private async IAsyncEnumerable<OutputItem> ConnectAsync(string session, string execution, long seen, [EnumeratorCancellation] CancellationToken cancellationToken)
    {
        using var request = new HttpRequestMessage(HttpMethod.Get, $"/v1/sessions/{SandboxApi.Escape(session)}/executions/{execution}/output");
        request.Headers.Accept.ParseAdd("text/event-stream");
        if (seen > 0)
        {
            request.Headers.Add("Last-Event-ID", seen.ToString(CultureInfo.InvariantCulture));
        }

        using var answer = await http.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, cancellationToken);
        if (!answer.IsSuccessStatusCode)
        {
            if ((int)answer.StatusCode is 502 or 503 or 504)
            {
                yield break;
            }

            throw await SandboxApi.ReadErrorAsync(answer, cancellationToken);
        }

        await using var body = await answer.Content.ReadAsStreamAsync(cancellationToken);
        await foreach (var item in SseParser.Create(body).EnumerateAsync(cancellationToken))
        {
            if (long.TryParse(item.EventId, CultureInfo.InvariantCulture, out var seq))
            {
                yield return new OutputItem(seq, item.EventType, JsonNode.Parse(item.Data)!);
            }
        }
    }
}
