using System.Text.Json;
using System.Text.Json.Serialization;

namespace Sandbox.Abstractions;

/// <summary>How the structured kinds of <see cref="OutputEvent"/> are written as JSON, in the log and on the wire.</summary>
public static class OutputJson
{
    /// <summary>camelCase, enums by name, durations in seconds, nothing for null.</summary>
    public static JsonSerializerOptions Options { get; } = new(JsonSerializerDefaults.Web)
    {
        DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull,
        Converters = { new JsonStringEnumConverter(JsonNamingPolicy.CamelCase), new SecondsJsonConverter() },
    };

    /// <summary>The exit that an event of kind <see cref="OutputKind.Exit"/> carries.</summary>
    public static ExecutionExit ReadExit(this OutputEvent output) => Read<ExecutionExit>(output, OutputKind.Exit);

    /// <summary>The result that an event of kind <see cref="OutputKind.Result"/> carries.</summary>
    public static RichResultData ReadResult(this OutputEvent output) => Read<RichResultData>(output, OutputKind.Result);

    /// <summary>The error that an event of kind <see cref="OutputKind.CodeError"/> carries.</summary>
    public static CodeErrorData ReadCodeError(this OutputEvent output) => Read<CodeErrorData>(output, OutputKind.CodeError);

    /// <summary>The artifact that an event of kind <see cref="OutputKind.Artifact"/> carries.</summary>
    public static ArtifactData ReadArtifact(this OutputEvent output) => Read<ArtifactData>(output, OutputKind.Artifact);

    /// <summary>Bytes of a structured event.</summary>
    public static byte[] Write<T>(T value) => JsonSerializer.SerializeToUtf8Bytes(value, Options);

    private static T Read<T>(OutputEvent output, OutputKind kind)
    {
        ArgumentNullException.ThrowIfNull(output);
        return output.Kind == kind
            ? JsonSerializer.Deserialize<T>(output.Data, Options)!
            : throw new InvalidOperationException($"Event {output.Seq} is a {output.Kind}, not a {kind}.");
    }
}
