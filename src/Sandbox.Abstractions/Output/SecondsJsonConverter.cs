using System.Text.Json;
using System.Text.Json.Serialization;

namespace Sandbox.Abstractions;

/// <summary>Writes durations as numbers of seconds, to the millisecond: the one form that every language's JSON has.</summary>
public sealed class SecondsJsonConverter : JsonConverter<TimeSpan>
{
    private const double Most = 1e10;

    /// <inheritdoc/>
    /// <exception cref="JsonException">No number, or one that is no duration.</exception>
    public override TimeSpan Read(ref Utf8JsonReader reader, Type typeToConvert, JsonSerializerOptions options)
    {
        if (reader.TokenType != JsonTokenType.Number)
        {
            throw new JsonException();
        }

        var seconds = reader.GetDouble();
        return double.IsFinite(seconds) && Math.Abs(seconds) < Most ? TimeSpan.FromSeconds(seconds) : throw new JsonException();
    }

    /// <inheritdoc/>
    public override void Write(Utf8JsonWriter writer, TimeSpan value, JsonSerializerOptions options)
    {
        ArgumentNullException.ThrowIfNull(writer);
        writer.WriteNumberValue(Math.Round(value.TotalSeconds, 3));
    }
}
