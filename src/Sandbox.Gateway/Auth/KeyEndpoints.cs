using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;
using Sandbox.Abstractions;
using Sandbox.Gateway.Http;

namespace Sandbox.Gateway.Auth;

/// <summary>A tenant's own API keys.</summary>
internal static class KeyEndpoints
{
    public static void Map(IEndpointRouteBuilder api, GatewayOptions options)
    {
        api.MapPost("/keys", async (HttpContext context, IGrainFactory grains) =>
        {
            var body = await ApiJson.ReadAsync<CreateKeyBody>(context, options);
            if (body.Name is not { Length: >= 1 and <= 64 } name)
            {
                throw SandboxException.Invalid("name", "A key's name has 1 to 64 characters.");
            }

            var created = await Mine(grains).CreateKeyAsync(name);
            return Results.Json(new { created.Info.Id, created.Info.Name, created.Info.CreatedAt, created.Key, E2bKey = E2bKeys.Write(created.Key) }, ApiJson.Options, statusCode: StatusCodes.Status201Created);
        }).TakesJson<CreateKeyBody>().WithSummary("Make an API key; its text is shown this once");

        api.MapGet("/keys", async (IGrainFactory grains) => Results.Json(new { keys = await Mine(grains).ListKeysAsync() }, ApiJson.Options)).WithSummary("List your API keys");

        api.MapDelete("/keys/{id}", async (string id, IGrainFactory grains) =>
        {
            await Mine(grains).RevokeKeyAsync(id);
            return Results.NoContent();
        }).WithSummary("Revoke an API key");
    }

    private static ITenantGrain Mine(IGrainFactory grains) => grains.GetGrain<ITenantGrain>(TenantContext.Current!);

    internal sealed record CreateKeyBody
    {
        public string? Name { get; init; }
    }
}
