using System.Text.Json;
using System.Text.Json.Serialization;
using System.Text.RegularExpressions;
using Microsoft.AspNetCore.Http;
using Sandbox.Abstractions;

namespace Sandbox.Gateway.Http;

/// <summary>How the API reads and writes JSON: camelCase, enums by name, durations in seconds, unknown members refused by name.</summary>
internal static partial class ApiJson
{
    public static JsonSerializerOptions Options { get; } = Create();

    /// <summary>Reads a JSON body of bounded size.</summary>
    /// <exception cref="SandboxException">It is too large, no JSON, or has a member that is unknown or of the wrong type; names the member.</exception>
    public static async Task<T> ReadAsync<T>(HttpContext context, GatewayOptions options)
        where T : class
    {
        var request = context.Request;
        if (request.ContentLength > options.MaxJsonBytes)
        {
            throw TooLarge(options);
        }

        if (request.ContentLength is not 0 && request.ContentType is { } type && !type.Contains("json", StringComparison.OrdinalIgnoreCase))
        {
            throw SandboxException.Invalid("Content-Type", $"The body must be application/json, not {type}.");
        }

        using var body = await ReadBoundedAsync(context, options);
        try
        {
            var bytes = body.GetBuffer().AsSpan(0, (int)body.Length);
            return JsonSerializer.Deserialize<T>(bytes.IsEmpty ? "{}"u8 : bytes, Options) ?? throw SandboxException.Invalid("", "The body must be a JSON object, not null.");
        }
        catch (JsonException e)
        {
            var unknown = UnknownMember().Match(e.Message);
            if (unknown.Success)
            {
                throw SandboxException.Invalid(unknown.Groups[1].Value, $"There is no member '{unknown.Groups[1].Value}' here.");
            }

            var field = (e.Path ?? "$").TrimStart('$').TrimStart('.');
            throw field.Length > 0
                ? SandboxException.Invalid(field, $"'{field}' has a value of the wrong type or out of its range.")
                : SandboxException.Invalid("", $"The body is not the JSON object that is wanted here (line {e.LineNumber + 1}, byte {e.BytePositionInLine}).");
        }
    }

    /// <summary>A body of bounded size.</summary>
    /// <exception cref="SandboxException"><see cref="SandboxErrorCode.TooLarge"/>.</exception>
    public static async Task<MemoryStream> ReadBoundedAsync(HttpContext context, GatewayOptions options)
    {
        var body = new MemoryStream();
        var buffer = new byte[16 * 1024];
        for (int n; (n = await context.Request.Body.ReadAsync(buffer, context.RequestAborted)) > 0;)
        {
            body.Write(buffer, 0, n);
            if (body.Length > options.MaxJsonBytes)
            {
                throw TooLarge(options);
            }
        }

        return body;
    }

    /// <summary>A map of texts; JSON could smuggle nulls into it.</summary>
    public static Dictionary<string, string> Texts(string field, Dictionary<string, string>? map) =>
        map?.FirstOrDefault(p => p.Value is null).Key is { } name ? throw SandboxException.Invalid($"{field}.{name}", $"'{name}' is null; it must be a text.") : map ?? [];

    private static SandboxException TooLarge(GatewayOptions options) => new(SandboxErrorCode.TooLarge, $"The body is over {options.MaxJsonBytes} bytes.");

    private static JsonSerializerOptions Create() => new(JsonSerializerDefaults.Web)
    {
        UnmappedMemberHandling = JsonUnmappedMemberHandling.Disallow,
        PropertyNameCaseInsensitive = false,
        DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull,
        NumberHandling = JsonNumberHandling.Strict,
        Converters = { new JsonStringEnumConverter(JsonNamingPolicy.CamelCase, allowIntegerValues: false), new SecondsJsonConverter() },
    };

    [GeneratedRegex("The JSON property '([^']*)' could not be mapped")]
    private static partial Regex UnknownMember();
}
