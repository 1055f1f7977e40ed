using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;
using Sandbox.Abstractions;

namespace Sandbox.Gateway;

/// <summary>Another API on the same address, beside <c>/v1</c>: registered as a service, it gets its say in the pipeline.</summary>
public interface IGatewayFacade
{
    /// <summary>Handles requests that it authenticates itself and lets the others pass. Errors thrown are written in its own form, see <see cref="IErrorFormat"/>.</summary>
    void UseBeforeAuthentication(IApplicationBuilder app);

    /// <summary>Maps the requests of callers with an API key; <see cref="TenantContext"/> is set when they come.</summary>
    void Map(IEndpointRouteBuilder endpoints);
}

/// <summary>How errors of a request are written: put among the request's features by whoever knows what its caller reads. Without one they are problem+json.</summary>
public interface IErrorFormat
{
    /// <summary>Writes an error as the answer. The status is what it would be under <c>/v1</c>; another may be set.</summary>
    Task WriteAsync(HttpContext context, int status, SandboxException error);
}
