using System.Net.WebSockets;
using System.Text;
using System.Text.Json;
using Microsoft.AspNetCore.Http;
using Sandbox.Abstractions;
using Sandbox.Gateway.Artifacts;
using Sandbox.Gateway.Http;

namespace Sandbox.Gateway.Executions;

/// <summary>An execution over a WebSocket: output events out as JSON, and in: stdin, eof, signal, resize. Closes by itself after the exit event.</summary>
internal static class ExecutionSocket
{
    private const int MaxMessage = 128 * 1024;

    public static async Task<IResult> ServeAsync(string id, string execution, HttpContext context, IGrainFactory grains, IOutputSource outputs, SessionLinks links)
    {
        var session = grains.Session<ISessionExecutions>(id);
        if (!context.WebSockets.IsWebSocketRequest)
        {
            throw SandboxException.Invalid("Upgrade", "This address wants a WebSocket.");
        }

        await session.GetExecutionAsync(execution);
        string? from = context.Request.Query["from"];
        var first = string.IsNullOrEmpty(from) ? 1 : long.TryParse(from, out var seq) && seq >= 1 ? seq : throw SandboxException.Invalid("from", "'from' must be a sequence number, 1 or more.");
        using var socket = await context.WebSockets.AcceptWebSocketAsync();
        using var stop = CancellationTokenSource.CreateLinkedTokenSource(context.RequestAborted);
        using var turn = new SemaphoreSlim(1, 1);
        var sending = SendOutputAsync(socket, turn, CompletedOutput.ReadAsync(outputs, grains, id, execution, first, stop.Token), links, stop.Token);
        var receiving = ReceiveInputAsync(socket, turn, execution, session, stop.Token);
        await Task.WhenAny(sending, receiving);
        try
        {
            if (sending.IsCompletedSuccessfully && socket.State == WebSocketState.Open)
            {
                await socket.CloseOutputAsync(WebSocketCloseStatus.NormalClosure, "the execution has ended", CancellationToken.None);
                await Task.WhenAny(receiving, Task.Delay(TimeSpan.FromSeconds(5), stop.Token));
            }
            else if (socket.State == WebSocketState.CloseReceived)
            {
                await socket.CloseOutputAsync(WebSocketCloseStatus.NormalClosure, null, CancellationToken.None);
            }
        }
        catch (WebSocketException)
        {
            // The other end is gone already.
        }

        await stop.CancelAsync();
        await Task.WhenAll(sending, receiving).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        return Results.Empty;
    }

    private static async Task SendOutputAsync(WebSocket socket, SemaphoreSlim turn, IAsyncEnumerable<OutputEvent> events, SessionLinks links, CancellationToken cancellationToken)
    {
        await foreach (var output in events.WithCancellation(cancellationToken))
        {
            var json = OutputModel.ToJson(output, links);
            json.Insert(0, "type", OutputModel.NameOf(output.Kind));
            await SendAsync(socket, turn, json.ToJsonString(), cancellationToken);
        }
    }

    private static async Task ReceiveInputAsync(WebSocket socket, SemaphoreSlim turn, string execution, ISessionExecutions session, CancellationToken cancellationToken)
    {
        var buffer = new byte[MaxMessage];
        while (true)
        {
            var length = 0;
            ValueWebSocketReceiveResult part;
            do
            {
                part = await socket.ReceiveAsync(buffer.AsMemory(length), cancellationToken);
                length += part.Count;
                if (part.MessageType == WebSocketMessageType.Close)
                {
                    return;
                }

                if (length == buffer.Length && !part.EndOfMessage)
                {
                    await socket.CloseOutputAsync(WebSocketCloseStatus.MessageTooBig, $"A message has at most {MaxMessage} bytes.", cancellationToken);
                    return;
                }
            }
            while (!part.EndOfMessage);

            try
            {
                await HandleAsync(buffer.AsMemory(0, length), execution, session);
            }
            catch (Exception e) when (e is SandboxException or JsonException or FormatException)
            {
                // One bad message is no reason to lose the output.
                var error = JsonSerializer.Serialize(new { type = "error", detail = e is SandboxException ? e.Message : "The message is not understood." }, ApiJson.Options);
                await SendAsync(socket, turn, error, cancellationToken);
            }
        }
    }

    private static Task HandleAsync(ReadOnlyMemory<byte> message, string execution, ISessionExecutions session)
    {
        var input = JsonSerializer.Deserialize<InputMessage>(message.Span, ApiJson.Options) ?? throw new JsonException();
        return input.Type switch
        {
            "stdin" => session.WriteStdinAsync(execution, input.Base64 is { } base64 ? Convert.FromBase64String(base64) : Encoding.UTF8.GetBytes(input.Text ?? ""), false),
            "eof" => session.WriteStdinAsync(execution, ReadOnlyMemory<byte>.Empty, true),
            "signal" => session.SignalAsync(execution, SignalBody.Parse(input.Signal)),
            "resize" => session.ResizeAsync(execution, new TerminalSize(input.Columns ?? 80, input.Rows ?? 24)),
            _ => throw SandboxException.Invalid("type", $"There is no message '{input.Type}'; there are stdin, eof, signal and resize."),
        };
    }

    private static async Task SendAsync(WebSocket socket, SemaphoreSlim turn, string json, CancellationToken cancellationToken)
    {
        await turn.WaitAsync(cancellationToken);
        try
        {
            await socket.SendAsync(Encoding.UTF8.GetBytes(json), WebSocketMessageType.Text, true, cancellationToken);
        }
        finally
        {
            turn.Release();
        }
    }

    private sealed record InputMessage
    {
        public string? Type { get; init; }

        public string? Text { get; init; }

        public string? Base64 { get; init; }

        public JsonElement? Signal { get; init; }

        public int? Columns { get; init; }

        public int? Rows { get; init; }
    }
}
