using Microsoft.AspNetCore.Http;
using Sandbox.Abstractions;
using Sandbox.E2b.Data;
using Sandbox.Gateway;

namespace Sandbox.E2b.Envd;

/// <summary>Errors of a sandbox's own REST calls: <c>{code, message}</c>, with the statuses that the SDKs tell apart.</summary>
internal sealed class EnvdErrors : IErrorFormat
{
    private EnvdErrors()
    {
    }

    /// <summary>The one instance.</summary>
    public static EnvdErrors Rest { get; } = new();

    /// <inheritdoc/>
    public Task WriteAsync(HttpContext context, int status, SandboxException error)
    {
        var code = SandboxGone.Is(context) ? StatusCodes.Status502BadGateway : error.Code switch
        {
            SandboxErrorCode.Conflict or SandboxErrorCode.AlreadyExists => StatusCodes.Status400BadRequest,
            _ => status,
        };
        context.Response.StatusCode = code;
        return context.Response.WriteAsJsonAsync(new { code, message = error.Message }, context.RequestAborted);
    }
}
