using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;
using Sandbox.Abstractions;
using Sandbox.Gateway.Http;

namespace Sandbox.Gateway.Contexts;

/// <summary>Contexts: interpreters whose variables persist.</summary>
internal static class ContextEndpoints
{
    public static void Map(IEndpointRouteBuilder api, GatewayOptions options)
    {
        api.MapPost("/sessions/{id}/contexts", async (string id, HttpContext context, IGrainFactory grains) =>
        {
            var body = await ApiJson.ReadAsync<CreateContextBody>(context, options);
            var request = new CreateContextRequest { Language = body.Language ?? "python", Cwd = body.Cwd, User = body.User, Env = ApiJson.Texts("env", body.Env) };
            return Results.Json(await grains.Session<ISessionContexts>(id).CreateContextAsync(request), ApiJson.Options, statusCode: StatusCodes.Status201Created);
        }).TakesJson<CreateContextBody>().Produces<ContextInfo>(StatusCodes.Status201Created).WithSummary("Make a context");

        api.MapGet("/sessions/{id}/contexts", async (string id, IGrainFactory grains) =>
            Results.Json(new { contexts = await grains.Session<ISessionContexts>(id).ListContextsAsync() }, ApiJson.Options)).WithSummary("List contexts");

        api.MapPost("/sessions/{id}/contexts/{contextId}/restart", async (string id, string contextId, IGrainFactory grains) =>
            Results.Json(await grains.Session<ISessionContexts>(id).RestartContextAsync(contextId), ApiJson.Options)).WithSummary("Start a context's interpreter afresh");

        api.MapDelete("/sessions/{id}/contexts/{contextId}", async (string id, string contextId, IGrainFactory grains) =>
        {
            await grains.Session<ISessionContexts>(id).RemoveContextAsync(contextId);
            return Results.NoContent();
        }).WithSummary("Remove a context");
    }

    internal sealed record CreateContextBody
    {
        public string? Language { get; init; }

        public string? Cwd { get; init; }

        public string? User { get; init; }

        public Dictionary<string, string>? Env { get; init; }
    }
}
