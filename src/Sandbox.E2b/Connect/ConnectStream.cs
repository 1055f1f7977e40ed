using Google.Protobuf;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Features;
using Microsoft.AspNetCore.Server.Kestrel.Core.Features;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using Sandbox.Abstractions;
using Sandbox.E2b.Data;
using Sandbox.Gateway.Http;

namespace Sandbox.E2b.Connect;

/// <summary>The answer of a call with streams: always status 200, and whatever went wrong in its last frame.</summary>
internal static class ConnectStream
{
    /// <summary>Runs a handler that writes frames, and writes the last one.</summary>
    public static async Task RunAsync(DataCall call, ConnectCodec codec, ConnectDeadline deadline, Func<Task> handler)
    {
        var context = call.Context;
        context.Response.ContentType = codec.Stream;
        context.Response.Headers.CacheControl = "no-cache";
        context.Response.Headers["X-Accel-Buffering"] = "no";
        context.Features.Get<IHttpResponseBodyFeature>()?.DisableBuffering();

        // A reader that takes its time holds up nothing but its own stream: the output waits in the log.
        if (context.Features.Get<IHttpMinResponseDataRateFeature>() is { } rate)
        {
            rate.MinDataRate = null;
        }

        SandboxException? error = null;
        try
        {
            await handler();
        }
        catch (Exception) when (context.RequestAborted.IsCancellationRequested)
        {
            return;
        }
        catch (OperationCanceledException) when (deadline.HasPassed)
        {
            error = ConnectDeadline.Exceeded();
        }
        catch (Exception e)
        {
            error = await SandboxGone.ExplainAsync(call, Problems.Understand(e));
            if (error.Code == SandboxErrorCode.Internal)
            {
                var logger = context.RequestServices.GetRequiredService<ILoggerFactory>().CreateLogger("Sandbox.E2b");
                logger.LogError(e, "{Path} failed", context.Request.Path);
            }
        }

        await context.Response.Body.WriteAsync(ConnectErrors.EndOfStream(error), context.RequestAborted);
    }
}

/// <summary>The messages that a handler streams out. Each write waits until the connection takes it, so that a slow reader slows the work down and fills no memory.</summary>
internal sealed class ConnectOutput<T>(HttpContext context, ConnectCodec codec, ConnectDeadline deadline, TimeSpan keepAlive)
    where T : IMessage
{
    /// <summary>The call's deadline.</summary>
    public ConnectDeadline Deadline { get; } = deadline;

    /// <summary>Writes a message and sends it off.</summary>
    public async Task WriteAsync(T message)
    {
        await context.Response.Body.WriteAsync(ConnectFrames.Pack(0, codec.Write(message)), Deadline.Token);
        await context.Response.Body.FlushAsync(Deadline.Token);
    }

    /// <summary>Writes a message for each item, and <paramref name="ping"/> whenever there has been none for a while.</summary>
    /// <param name="items">What to follow.</param>
    /// <param name="write">Writes an item; says whether to go on.</param>
    /// <param name="ping">A message that says nothing.</param>
    public async Task FollowAsync<TItem>(IAsyncEnumerable<TItem> items, Func<TItem, Task<bool>> write, T ping)
    {
        using var stop = CancellationTokenSource.CreateLinkedTokenSource(Deadline.Token);
        var reader = items.GetAsyncEnumerator(stop.Token);
        Task<bool> next = Task.FromResult(false);
        try
        {
            do
            {
                next = reader.MoveNextAsync().AsTask();
                while (!next.IsCompleted)
                {
                    try
                    {
                        await next.WaitAsync(keepAlive, Deadline.Token);
                    }
                    catch (TimeoutException) when (!next.IsCompleted)
                    {
                        await WriteAsync(ping);
                    }
                }
            }
            while (await next && await write(reader.Current));
        }
        finally
        {
            await stop.CancelAsync();
            await ((Task)next).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            await reader.DisposeAsync();
        }
    }
}
