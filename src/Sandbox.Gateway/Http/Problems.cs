using System.Text.Json;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Logging;
using Sandbox.Abstractions;

namespace Sandbox.Gateway.Http;

/// <summary>Every error leaves as application/problem+json (RFC 9457) with <c>code</c>, and <c>field</c> where one is at fault.</summary>
internal static class Problems
{
    /// <summary>The HTTP status of a kind of error.</summary>
    public static int StatusOf(SandboxErrorCode code) => code switch
    {
        SandboxErrorCode.InvalidArgument => StatusCodes.Status400BadRequest,
        SandboxErrorCode.Unauthenticated => StatusCodes.Status401Unauthorized,
        SandboxErrorCode.PermissionDenied => StatusCodes.Status403Forbidden,
        SandboxErrorCode.NotFound => StatusCodes.Status404NotFound,
        SandboxErrorCode.AlreadyExists or SandboxErrorCode.Conflict => StatusCodes.Status409Conflict,
        SandboxErrorCode.TooLarge => StatusCodes.Status413PayloadTooLarge,
        SandboxErrorCode.Unsupported => StatusCodes.Status422UnprocessableEntity,
        SandboxErrorCode.ResourceExhausted => StatusCodes.Status429TooManyRequests,
        SandboxErrorCode.Unavailable => StatusCodes.Status503ServiceUnavailable,
        SandboxErrorCode.DeadlineExceeded => StatusCodes.Status504GatewayTimeout,
        SandboxErrorCode.DiskFull => StatusCodes.Status507InsufficientStorage,
        _ => StatusCodes.Status500InternalServerError,
    };

    /// <summary>Turns whatever a handler throws into a problem.</summary>
    public static async Task HandleAsync(HttpContext context, RequestDelegate next, ILogger logger)
    {
        try
        {
            await next(context);
        }
        catch (OperationCanceledException) when (context.RequestAborted.IsCancellationRequested)
        {
            // The caller has gone; nobody reads an answer.
        }
        catch (Exception e)
        {
            var error = Understand(e);
            if (error.Code is SandboxErrorCode.Internal)
            {
                logger.LogError(e, "{Method} {Path} failed", context.Request.Method, context.Request.Path);
            }

            if (context.Response.HasStarted)
            {
                // Half of an answer is out. Cutting the connection is the only way left to say that it is not whole.
                context.Abort();
                return;
            }

            await WriteAsync(context, error);
        }
    }

    /// <summary>Routing answers an unknown address and a wrong method with a bare status; the caller is told in words.</summary>
    public static async Task ForBareStatusAsync(HttpContext context, RequestDelegate next)
    {
        await next(context);
        if (context.Response is not { HasStarted: false, ContentLength: null, ContentType: null })
        {
            return;
        }

        switch (context.Response.StatusCode)
        {
            case StatusCodes.Status404NotFound:
                throw SandboxException.NotFound($"There is nothing at {context.Request.Path}. The API is described at /openapi/v1.json");
            case StatusCodes.Status405MethodNotAllowed:
                var allow = context.Response.Headers.Allow.ToString();
                var problem = new ProblemBody(
                    "about:blank", "Method Not Allowed", StatusCodes.Status405MethodNotAllowed, $"{context.Request.Path} takes {allow}, not {context.Request.Method}.", "methodNotAllowed", null, context.TraceIdentifier);
                await context.Response.WriteAsJsonAsync(problem, ApiJson.Options, "application/problem+json", context.RequestAborted);
                break;
        }
    }

    /// <summary>Writes a problem.</summary>
    public static Task WriteAsync(HttpContext context, SandboxException error) => WriteAsync(context, error, StatusOf(error.Code));

    /// <summary>Writes a problem under a status of its own.</summary>
    public static Task WriteAsync(HttpContext context, SandboxException error, int status)
    {
        context.Response.Clear();
        context.Response.StatusCode = status;
        if (context.Features.Get<IErrorFormat>() is { } format)
        {
            return format.WriteAsync(context, status, error);
        }

        if (status == StatusCodes.Status401Unauthorized)
        {
            context.Response.Headers.WWWAuthenticate = "Bearer";
        }

        var problem = new ProblemBody(
            "about:blank", Microsoft.AspNetCore.WebUtilities.ReasonPhrases.GetReasonPhrase(status), status, error.Message,
            JsonNamingPolicy.CamelCase.ConvertName(error.Code.ToString()), error.Field, context.TraceIdentifier);
        return context.Response.WriteAsJsonAsync(problem, ApiJson.Options, "application/problem+json", context.RequestAborted);
    }

    internal static SandboxException Understand(Exception e) => e switch
    {
        SandboxException known => known,
        BadHttpRequestException { StatusCode: StatusCodes.Status413PayloadTooLarge } large => new SandboxException(SandboxErrorCode.TooLarge, large.Message),
        BadHttpRequestException bad => new SandboxException(SandboxErrorCode.InvalidArgument, bad.Message),
        TimeoutException => new SandboxException(SandboxErrorCode.DeadlineExceeded, "The cluster did not answer in time. Try again; calls with an Idempotency-Key are safe to repeat."),
        Orleans.Runtime.OrleansException => new SandboxException(SandboxErrorCode.Unavailable, "The cluster cannot serve the call at this moment. Try again."),
        _ => new SandboxException(SandboxErrorCode.Internal, "The server failed to serve this request; its log has the details."),
    };

    private sealed record ProblemBody(string Type, string Title, int Status, string Detail, string Code, string? Field, string TraceId);
}
