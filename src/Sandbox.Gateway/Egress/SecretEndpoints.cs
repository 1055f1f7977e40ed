using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;
using Sandbox.Abstractions;
using Sandbox.Gateway.Http;

namespace Sandbox.Gateway.Egress;

/// <summary>A tenant's secrets. Their values go in and never come out.</summary>
internal static class SecretEndpoints
{
    public static void Map(IEndpointRouteBuilder api, GatewayOptions options)
    {
        api.MapGet("/secrets", async (IGrainFactory grains) => Results.Json(new { secrets = await EgressEndpoints.Mine(grains).ListSecretsAsync() }, ApiJson.Options)).WithSummary("List your secrets, without their values");

        api.MapPut("/secrets/{name}", async (string name, HttpContext context, IGrainFactory grains) =>
        {
            var body = await ApiJson.ReadAsync<SecretBody>(context, options);
            return Results.Json(await EgressEndpoints.Mine(grains).PutSecretAsync(body.ToSpec(name)), ApiJson.Options);
        }).TakesJson<SecretBody>().Produces<SecretInfo>().WithSummary("Store a secret, or replace one; sessions see a placeholder, and the value is put in outside of them");

        api.MapDelete("/secrets/{name}", async (string name, IGrainFactory grains) =>
        {
            await EgressEndpoints.Mine(grains).DeleteSecretAsync(name);
            return Results.NoContent();
        }).WithSummary("Delete a secret");
    }

    internal sealed record SecretBody
    {
        public string? Value { get; init; }

        public IReadOnlyList<string>? Hosts { get; init; }

        public IReadOnlyList<string>? Headers { get; init; }

        public string? Variable { get; init; }

        public SecretSpec ToSpec(string name) => new()
        {
            Name = name,
            Value = Value ?? throw SandboxException.Invalid("value", "'value' is required."),
            Hosts = Hosts ?? throw SandboxException.Invalid("hosts", "'hosts' is required: the hosts that the secret may be sent to."),
            Headers = Headers ?? [],
            Variable = Variable,
        };

        /// <summary>Without the value: records print themselves into logs.</summary>
        public override string ToString() => "secret";
    }
}
