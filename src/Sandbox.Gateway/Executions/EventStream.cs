using System.Globalization;
using System.Text;
using System.Threading.Channels;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Features;
using Sandbox.Abstractions;
using Sandbox.Gateway.Artifacts;

namespace Sandbox.Gateway.Executions;

/// <summary>Output as server-sent events: the sequence number is the event's id, so a reconnecting EventSource resumes by itself.</summary>
internal static class EventStream
{
    /// <summary>Events read ahead of a slow reader. Bounded: the rest waits in the log.</summary>
    private const int ReadAhead = 64;

    public static bool IsWanted(HttpContext context) =>
        context.Request.Headers.Accept.ToString().Contains("text/event-stream", StringComparison.OrdinalIgnoreCase) || context.Request.Query["follow"] == "sse";

    public static async Task WriteAsync(HttpContext context, IAsyncEnumerable<OutputEvent> events, SessionLinks links, GatewayOptions options, int status)
    {
        context.Response.StatusCode = status;
        context.Response.ContentType = "text/event-stream";
        context.Response.Headers.CacheControl = "no-cache";
        context.Response.Headers["X-Accel-Buffering"] = "no";
        context.Features.Get<IHttpResponseBodyFeature>()?.DisableBuffering();
        await context.Response.Body.FlushAsync(context.RequestAborted);

        using var stop = CancellationTokenSource.CreateLinkedTokenSource(context.RequestAborted);
        var ahead = Channel.CreateBounded<OutputEvent>(ReadAhead);
        var reading = PumpAsync(events, ahead.Writer, stop.Token);
        try
        {
            while (true)
            {
                var more = ahead.Reader.WaitToReadAsync(stop.Token).AsTask();
                while (!more.IsCompleted)
                {
                    try
                    {
                        await more.WaitAsync(options.KeepAlive, stop.Token);
                    }
                    catch (TimeoutException) when (!more.IsCompleted)
                    {
                        await SendAsync(context, ": still here\n\n");
                    }
                }

                if (!await more)
                {
                    break;
                }

                var text = new StringBuilder();
                while (ahead.Reader.TryRead(out var output))
                {
                    text.Append(CultureInfo.InvariantCulture, $"id: {output.Seq}\nevent: {OutputModel.NameOf(output.Kind)}\ndata: {OutputModel.ToJson(output, links).ToJsonString()}\n\n");
                }

                await SendAsync(context, text.ToString());
            }

            await reading;
        }
        finally
        {
            await stop.CancelAsync();
            await reading.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }
    }

    private static async Task PumpAsync(IAsyncEnumerable<OutputEvent> events, ChannelWriter<OutputEvent> ahead, CancellationToken cancellationToken)
    {
        try
        {
            await foreach (var output in events.WithCancellation(cancellationToken))
            {
                await ahead.WriteAsync(output, cancellationToken);
            }

            ahead.Complete();
        }
        catch (Exception e)
        {
            ahead.TryComplete(e);
            throw;
        }
    }

    private static async Task SendAsync(HttpContext context, string text)
    {
        await context.Response.WriteAsync(text, context.RequestAborted);
        await context.Response.Body.FlushAsync(context.RequestAborted);
    }
}
