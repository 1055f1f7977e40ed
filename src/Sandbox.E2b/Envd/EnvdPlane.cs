#pragma warning disable CA1822
using Microsoft.AspNetCore.Http;
using Sandbox.Abstractions;
using Sandbox.E2b.Data;

namespace Sandbox.E2b.Envd;

/// <summary>Port 49983: health, files over REST, files and processes over Connect-RPC.</summary>
internal sealed class EnvdPlane
{
    /// <summary>Serves a call.</summary>
    public Task HandleAsync(DataCall call) => call.Context.Request.Path.Value switch
    {
        "/health" => HealthAsync(call),
        _ => throw SandboxException.NotFound($"There is nothing at {call.Context.Request.Path} of port {call.Port}."),
    };

    private static async Task HealthAsync(DataCall call)
    {
        var info = await call.Session<ISessionGrain>().GetAsync();
        call.Context.Response.StatusCode = info.State == SessionState.Running ? StatusCodes.Status204NoContent : StatusCodes.Status502BadGateway;
    }
}
