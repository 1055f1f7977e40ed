using System.Text.Json;
using System.Text.Json.Serialization;
using Microsoft.AspNetCore.Http;
using Sandbox.Abstractions;
using Sandbox.Gateway;
using Sandbox.Gateway.Http;

namespace Sandbox.E2b.Control;

/// <summary>JSON of the control plane. Members nobody here knows are ignored: newer SDKs send more, and what would change a sandbox's behaviour is named in the bodies and refused there.</summary>
internal static class ControlJson
{
    public static JsonSerializerOptions Options { get; } = new(JsonSerializerDefaults.Web) { DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull };

    /// <summary>Reads a body of bounded size; no body is an empty one.</summary>
    /// <exception cref="SandboxException">It is no JSON, or has a member of the wrong type.</exception>
    public static async Task<T> ReadAsync<T>(HttpContext context, GatewayOptions options)
        where T : class, new()
    {
        using var body = await ApiJson.ReadBoundedAsync(context, options);
        try
        {
            return body.Length == 0 ? new T() : JsonSerializer.Deserialize<T>(body.GetBuffer().AsSpan(0, (int)body.Length), Options) ?? new T();
        }
        catch (JsonException e)
        {
            throw SandboxException.Invalid((e.Path ?? "").TrimStart('$', '.'), $"The body is not what is wanted here: {e.Path} has the wrong type, or it is no JSON.");
        }
    }

    public static IResult Answer(object value, int status = StatusCodes.Status200OK) => Results.Json(value, Options, statusCode: status);
}
