using System.Globalization;
using System.Runtime.CompilerServices;
using Google.Protobuf;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Features;
using Microsoft.AspNetCore.Server.Kestrel.Core.Features;
using Sandbox.Abstractions;
using Sandbox.E2b.Data;
using Sandbox.Gateway;

namespace Sandbox.E2b.Connect;

/// <summary>The three kinds of calls of Connect-RPC that E2B's services have.</summary>
internal static class ConnectRpc
{
    private const string TimeoutHeader = "Connect-Timeout-Ms";

    /// <summary>One message in, one out.</summary>
    public static async Task UnaryAsync<TRequest, TResponse>(DataCall call, Func<TRequest, Task<TResponse>> handler)
        where TRequest : IMessage<TRequest>, new()
        where TResponse : IMessage
    {
        var context = call.Context;
        context.Features.Set<IErrorFormat>(ConnectErrors.Unary);
        if (CodecOf(context, stream: false) is not { } codec)
        {
            return;
        }

        BodyLimit(context, ConnectFrames.MaxMessageBytes);
        using var deadline = new ConnectDeadline(context, TimeoutOf(context));
        var request = codec.Read<TRequest>(await ConnectFrames.ReadAllAsync(context.Request.Body, IsGzip(context, "Content-Encoding"), deadline.Token));
        TResponse response;
        try
        {
            response = await handler(request).WaitAsync(deadline.Token);
        }
        catch (OperationCanceledException) when (deadline.HasPassed)
        {
            throw ConnectDeadline.Exceeded();
        }

        context.Response.ContentType = codec.Unary;
        var body = codec.Write(response);
        context.Response.ContentLength = body.Length;
        await context.Response.Body.WriteAsync(body, context.RequestAborted);
    }

    /// <summary>One message in, many out.</summary>
    public static async Task ServerStreamAsync<TRequest, TResponse>(DataCall call, GatewayOptions options, Func<TRequest, ConnectOutput<TResponse>, Task> handler)
        where TRequest : IMessage<TRequest>, new()
        where TResponse : IMessage
    {
        var context = call.Context;
        context.Features.Set<IErrorFormat>(ConnectErrors.Unary);
        if (CodecOf(context, stream: true) is not { } codec)
        {
            return;
        }

        BodyLimit(context, ConnectFrames.MaxMessageBytes + 64);
        using var deadline = new ConnectDeadline(context, TimeoutOf(context));
        await ConnectStream.RunAsync(call, codec, deadline, async () =>
        {
            var message = await ConnectFrames.ReadAsync(context.Request.Body, IsGzip(context, "Connect-Content-Encoding"), deadline.Token)
                ?? throw new SandboxException(SandboxErrorCode.InvalidArgument, "The stream has no message; one is needed.");
            var output = new ConnectOutput<TResponse>(context, codec, deadline, KeepAliveOf(context, options));
            await handler(codec.Read<TRequest>(message), output);
        });
    }

    /// <summary>Many messages in, one out.</summary>
    public static async Task ClientStreamAsync<TRequest, TResponse>(DataCall call, Func<IAsyncEnumerable<TRequest>, Task<TResponse>> handler)
        where TRequest : IMessage<TRequest>, new()
        where TResponse : IMessage
    {
        var context = call.Context;
        context.Features.Set<IErrorFormat>(ConnectErrors.Unary);
        if (CodecOf(context, stream: true) is not { } codec)
        {
            return;
        }

        // A keyboard is slow and may go on for days: what is bounded is each message.
        BodyLimit(context, null);
        if (context.Features.Get<IHttpMinRequestBodyDataRateFeature>() is { } rate)
        {
            rate.MinDataRate = null;
        }

        using var deadline = new ConnectDeadline(context, TimeoutOf(context));
        await ConnectStream.RunAsync(call, codec, deadline, async () =>
        {
            var response = await handler(MessagesAsync<TRequest>(context, codec, deadline.Token));
            await context.Response.Body.WriteAsync(ConnectFrames.Pack(0, codec.Write(response)), deadline.Token);
        });
    }

    private static async IAsyncEnumerable<T> MessagesAsync<T>(HttpContext context, ConnectCodec codec, [EnumeratorCancellation] CancellationToken cancellationToken)
        where T : IMessage<T>, new()
    {
        var gzip = IsGzip(context, "Connect-Content-Encoding");
        while (await ConnectFrames.ReadAsync(context.Request.Body, gzip, cancellationToken) is { } message)
        {
            yield return codec.Read<T>(message);
        }
    }

    /// <summary>How messages are written; <see langword="null"/>: the caller has been told that they cannot be.</summary>
    private static ConnectCodec? CodecOf(HttpContext context, bool stream)
    {
        if (!HttpMethods.IsPost(context.Request.Method))
        {
            context.Response.StatusCode = StatusCodes.Status405MethodNotAllowed;
            context.Response.Headers.Allow = "POST";
            return null;
        }

        if (context.Request.Headers.TryGetValue("Connect-Protocol-Version", out var version) && version != "1")
        {
            throw new SandboxException(SandboxErrorCode.InvalidArgument, "Connect-Protocol-Version must be 1.");
        }

        if (ConnectCodec.Of(context.Request.ContentType, stream) is { } codec)
        {
            return codec;
        }

        context.Response.StatusCode = StatusCodes.Status415UnsupportedMediaType;
        context.Response.Headers["Accept-Post"] = stream ? $"{ConnectCodec.Json.Stream}, {ConnectCodec.Proto.Stream}" : $"{ConnectCodec.Json.Unary}, {ConnectCodec.Proto.Unary}";
        return null;
    }

    private static bool IsGzip(HttpContext context, string header) => context.Request.Headers[header].ToString() switch
    {
        "" or "identity" => false,
        "gzip" => true,
        _ => throw new SandboxException(SandboxErrorCode.Unsupported, $"{header}: only gzip and identity are understood."),
    };

    /// <summary>How long the caller gives the call.</summary>
    private static TimeSpan? TimeoutOf(HttpContext context)
    {
        string? text = context.Request.Headers[TimeoutHeader];
        if (string.IsNullOrEmpty(text))
        {
            return null;
        }

        return text.Length <= 10 && long.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out var milliseconds) && milliseconds > 0
            ? TimeSpan.FromMilliseconds(milliseconds)
            : throw new SandboxException(SandboxErrorCode.InvalidArgument, $"{TimeoutHeader} is a positive number of at most 10 digits.");
    }

    private static TimeSpan KeepAliveOf(HttpContext context, GatewayOptions options) =>
        int.TryParse(context.Request.Headers["Keepalive-Ping-Interval"], NumberStyles.None, CultureInfo.InvariantCulture, out var seconds)
            ? TimeSpan.FromSeconds(Math.Clamp(seconds, 1, 3600))
            : options.KeepAlive;

    private static void BodyLimit(HttpContext context, long? most)
    {
        if (context.Features.Get<IHttpMaxRequestBodySizeFeature>() is { IsReadOnly: false } limit)
        {
            // One more than is taken, so that the larger one is refused in our own words.
            limit.MaxRequestBodySize = most + 1;
        }
    }
}
