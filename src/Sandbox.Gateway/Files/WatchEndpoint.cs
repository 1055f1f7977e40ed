using System.Globalization;
using System.Text;
using System.Text.Json;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Features;
using Microsoft.AspNetCore.Routing;
using Sandbox.Abstractions;
using Sandbox.Gateway.Http;

namespace Sandbox.Gateway.Files;

/// <summary>What happens in a directory, as server-sent events. A stream that is cut begins anew: nothing is kept for it.</summary>
internal static class WatchEndpoint
{
    public static void Map(IEndpointRouteBuilder api, GatewayOptions options) =>
        api.MapGet("/sessions/{id}/files/watch", (string id, HttpContext context, IGrainFactory grains) => WatchAsync(id, context, grains, options))
            .WithSummary("Watch the directory ?path= (&recursive=true &user=) as server-sent events: ready, change, dropped, closed");

    private static async Task<IResult> WatchAsync(string id, HttpContext context, IGrainFactory grains, GatewayOptions options)
    {
        var files = grains.Session<ISessionFiles>(id);
        var watch = await files.WatchAsync(context.QueryText("path"), context.QueryFlag("recursive"), context.Request.Query["user"]);
        try
        {
            context.Response.ContentType = "text/event-stream";
            context.Response.Headers.CacheControl = "no-cache";
            context.Response.Headers["X-Accel-Buffering"] = "no";
            context.Features.Get<IHttpResponseBodyFeature>()?.DisableBuffering();
            await SendAsync(context, "event: ready\ndata: {}\n\n");
            while (true)
            {
                var page = await NextAsync(files, watch, options);
                var text = new StringBuilder();
                if (page.Dropped > 0)
                {
                    text.Append(CultureInfo.InvariantCulture, $"event: dropped\ndata: {{\"count\":{page.Dropped}}}\n\n");
                }

                foreach (var change in page.Events)
                {
                    text.Append("event: change\ndata: ").Append(JsonSerializer.Serialize(change, ApiJson.Options)).Append("\n\n");
                }

                text.Append(page.Closed ? "event: closed\ndata: {}\n\n" : text.Length == 0 ? ": still here\n\n" : "");
                await SendAsync(context, text.ToString());
                if (page.Closed)
                {
                    return Results.Empty;
                }
            }
        }
        finally
        {
            await EndQuietlyAsync(files, watch);
        }
    }

    private static async Task<FileEventPage> NextAsync(ISessionFiles files, string watch, GatewayOptions options)
    {
        try
        {
            // A silent directory is given a comment as often as any other stream.
            return await files.ReadWatchAsync(watch, options.KeepAlive);
        }
        catch (SandboxException e) when (e.Code is SandboxErrorCode.NotFound or SandboxErrorCode.Unavailable)
        {
            // Its microVM was paused, or is gone.
            return new FileEventPage([], 0, true);
        }
    }

    private static async Task SendAsync(HttpContext context, string text)
    {
        await context.Response.WriteAsync(text, context.RequestAborted);
        await context.Response.Body.FlushAsync(context.RequestAborted);
    }

    private static async Task EndQuietlyAsync(ISessionFiles files, string watch)
    {
        try
        {
            await files.UnwatchAsync(watch);
        }
        catch (Exception e) when (e is SandboxException or TimeoutException or OrleansException)
        {
            // It ends by itself when nobody reads it.
        }
    }
}
