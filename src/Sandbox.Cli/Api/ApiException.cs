using System.Net;

namespace Sandbox.Cli.Api;

/// <summary>The server said no; the message is its own.</summary>
internal sealed class ApiException(HttpStatusCode status, string code, string? field, string detail) : Exception(field is null ? detail : $"{field}: {detail}")
{
    /// <summary>HTTP status.</summary>
    public HttpStatusCode Status { get; } = status;

    /// <summary>The API's own name for the error, for example <c>notFound</c>.</summary>
    public string Code { get; } = code;
}
