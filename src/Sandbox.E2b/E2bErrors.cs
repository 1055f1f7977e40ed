using Microsoft.AspNetCore.Http;
using Sandbox.Abstractions;
using Sandbox.Gateway;

namespace Sandbox.E2b;

/// <summary>Errors as E2B's REST calls answer them: <c>{code, message}</c>, the code being the HTTP status.</summary>
internal sealed class E2bErrors : IErrorFormat
{
    public static E2bErrors Rest { get; } = new();

    public Task WriteAsync(HttpContext context, int status, SandboxException error)
    {
        if (error.Code == SandboxErrorCode.Unsupported)
        {
            // E2B has no 422: what it does not do is a bad request.
            status = context.Response.StatusCode = StatusCodes.Status400BadRequest;
        }

        return context.Response.WriteAsJsonAsync(new { code = status, message = error.Message }, context.RequestAborted);
    }
}
