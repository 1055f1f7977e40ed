using System.Text.Json;
using Microsoft.AspNetCore.Http;
using Sandbox.Abstractions;
using Sandbox.Gateway;

namespace Sandbox.E2b.Connect;

/// <summary>Errors as Connect-RPC says them: a code by name, the HTTP status following from it, and a message.</summary>
internal sealed class ConnectErrors : IErrorFormat
{
    private ConnectErrors()
    {
    }

    /// <summary>The one instance.</summary>
    public static ConnectErrors Unary { get; } = new();

    /// <summary>Code and HTTP status of a kind of error.</summary>
    public static (string Code, int Status) Of(SandboxErrorCode code) => code switch
    {
        SandboxErrorCode.InvalidArgument or SandboxErrorCode.TooLarge => ("invalid_argument", StatusCodes.Status400BadRequest),
        SandboxErrorCode.NotFound => ("not_found", StatusCodes.Status404NotFound),
        SandboxErrorCode.AlreadyExists => ("already_exists", StatusCodes.Status409Conflict),

        // Not resource_exhausted: the SDKs make "rate limit exceeded, try again later" of that.
        SandboxErrorCode.Conflict or SandboxErrorCode.DiskFull => ("failed_precondition", StatusCodes.Status400BadRequest),
        SandboxErrorCode.PermissionDenied => ("permission_denied", StatusCodes.Status403Forbidden),
        SandboxErrorCode.Unauthenticated => ("unauthenticated", StatusCodes.Status401Unauthorized),
        SandboxErrorCode.ResourceExhausted => ("resource_exhausted", StatusCodes.Status429TooManyRequests),
        SandboxErrorCode.Unavailable => ("unavailable", StatusCodes.Status503ServiceUnavailable),
        SandboxErrorCode.DeadlineExceeded => ("deadline_exceeded", StatusCodes.Status504GatewayTimeout),
        SandboxErrorCode.Unsupported => ("unimplemented", StatusCodes.Status501NotImplemented),
        _ => ("internal", StatusCodes.Status500InternalServerError),
    };

    /// <inheritdoc/>
    public Task WriteAsync(HttpContext context, int status, SandboxException error)
    {
        var (code, own) = Of(error.Code);
        context.Response.StatusCode = own;
        return context.Response.WriteAsJsonAsync(new ErrorBody(code, error.Message), JsonSerializerOptions.Web, "application/json", context.RequestAborted);
    }

    /// <summary>The last frame of a stream.</summary>
    public static byte[] EndOfStream(SandboxException? error) => ConnectFrames.Pack(
        ConnectFrames.End,
        error is null ? "{}"u8 : JsonSerializer.SerializeToUtf8Bytes(new { error = new ErrorBody(Of(error.Code).Code, error.Message) }, JsonSerializerOptions.Web));

    private sealed record ErrorBody(string Code, string Message);
}
