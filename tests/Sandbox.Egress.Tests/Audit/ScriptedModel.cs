using System.Collections.Concurrent;
using System.Net;
using System.Net.Sockets;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;

namespace Sandbox.Egress.Tests.Audit;

/// <summary>An endpoint that speaks just enough HTTP to be asked and to answer what a test has it answer.</summary>
internal sealed class ScriptedModel : IAsyncDisposable
{
    private readonly TcpListener _listener = new(IPAddress.Loopback, 0);
    private readonly CancellationTokenSource _ending = new();
    private readonly Task _serving;

    /// <param name="answer">From the call's JSON to the whole body of the response; <see langword="null"/>: never answers.</param>
    public ScriptedModel(Func<JsonNode, string?> answer)
    {
        _listener.Start();
        Url = new Uri($"http://127.0.0.1:{((IPEndPoint)_listener.LocalEndpoint).Port}/v1");
        _serving = ServeAsync(answer);
    }

    public Uri Url { get; }

    public ConcurrentQueue<JsonNode> Calls { get; } = new();

    public ConcurrentQueue<string> Heads { get; } = new();

    /// <summary>What a model that does as it is told would answer.</summary>
    public static string Verdict(JsonNode call, string verdict, string category, string? nonce = null) =>
        Content(JsonSerializer.Serialize(new { nonce = nonce ?? NonceOf(call), verdict, category }));

    public static string Content(string content, string finish = "stop") =>
        JsonSerializer.Serialize(new { choices = new[] { new { finish_reason = finish, message = new { role = "assistant", content } } }, usage = new { total_tokens = 100 } });

    public static string NonceOf(JsonNode call)
    {
        var system = call["messages"]![0]!["content"]!.GetValue<string>();
        var at = system.IndexOf("\"nonce\" is exactly ", StringComparison.Ordinal) + "\"nonce\" is exactly ".Length;
        return system[at..(at + 32)];
    }

    public async ValueTask DisposeAsync()
    {
        await _ending.CancelAsync();
        _listener.Stop();
        await _serving;
    }

    private async Task ServeAsync(Func<JsonNode, string?> answer)
    {
        try
        {
            while (true)
            {
                var client = await _listener.AcceptTcpClientAsync(_ending.Token);
                _ = ConverseAsync(client, answer);
            }
        }
        catch (Exception exception) when (exception is OperationCanceledException or SocketException or ObjectDisposedException)
        {
            // The test is over.
        }
    }

    private async Task ConverseAsync(TcpClient client, Func<JsonNode, string?> answer)
    {
        try
        {
            using (client)
            {
                var stream = client.GetStream();
                var head = new StringBuilder();
                var one = new byte[1];
                while (!head.ToString().EndsWith("\r\n\r\n", StringComparison.Ordinal))
                {
                    await stream.ReadExactlyAsync(one, _ending.Token);
                    head.Append((char)one[0]);
                }

                Heads.Enqueue(head.ToString());
                var length = int.Parse(head.ToString().Split("Content-Length: ")[1].Split("\r\n")[0]);
                var body = new byte[length];
                await stream.ReadExactlyAsync(body, _ending.Token);
                var call = JsonNode.Parse(body)!;
                Calls.Enqueue(call);
                if (answer(call) is not { } text)
                {
                    await Task.Delay(Timeout.Infinite, _ending.Token);
                    return;
                }

                var status = text.StartsWith("HTTP ", StringComparison.Ordinal) ? text[5..] : "200 OK";
                var bytes = Encoding.UTF8.GetBytes(text);
                await stream.WriteAsync(Encoding.ASCII.GetBytes($"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {bytes.Length}\r\nConnection: close\r\n\r\n"), _ending.Token);
                await stream.WriteAsync(bytes, _ending.Token);
            }
        }
        catch (Exception exception) when (exception is OperationCanceledException or IOException or ObjectDisposedException)
        {
            // The other side has had enough.
        }
    }
}
