using System.Globalization;
using System.Text.Json;
using System.Text.Json.Serialization;
using System.Text.RegularExpressions;

namespace Sandbox.Isolation.Devices;

/// <summary>Where a PCI function is: <c>domain:bus:device.function</c>, as the kernel writes it (<c>0000:3b:00.0</c>).</summary>
/// <param name="Domain">Segment.</param>
/// <param name="Bus">Bus.</param>
/// <param name="Device">Device, 0..31.</param>
/// <param name="Function">Function, 0..7.</param>
[JsonConverter(typeof(PciAddressConverter))]
public readonly partial record struct PciAddress(uint Domain, byte Bus, byte Device, byte Function) : IComparable<PciAddress>
{
    /// <summary>Reads the kernel's form; <see langword="null"/> for anything else.</summary>
    public static PciAddress? TryParse(string? text)
    {
        var match = Form().Match(text ?? "");
        return match.Success && Number(match, 3) < 32 ? new PciAddress(Number(match, 1), (byte)Number(match, 2), (byte)Number(match, 3), (byte)Number(match, 4)) : null;
    }

    /// <inheritdoc/>
    public override string ToString() => string.Create(CultureInfo.InvariantCulture, $"{Domain:x4}:{Bus:x2}:{Device:x2}.{Function:x}");

    /// <inheritdoc/>
    public int CompareTo(PciAddress other) => (Domain, Bus, Device, Function).CompareTo((other.Domain, other.Bus, other.Device, other.Function));

    /// <summary>Order of addresses.</summary>
    public static bool operator <(PciAddress left, PciAddress right) => left.CompareTo(right) < 0;

    /// <summary>Order of addresses.</summary>
    public static bool operator >(PciAddress left, PciAddress right) => left.CompareTo(right) > 0;

    /// <summary>Order of addresses.</summary>
    public static bool operator <=(PciAddress left, PciAddress right) => left.CompareTo(right) <= 0;

    /// <summary>Order of addresses.</summary>
    public static bool operator >=(PciAddress left, PciAddress right) => left.CompareTo(right) >= 0;

    private static uint Number(Match match, int group) => uint.Parse(match.Groups[group].ValueSpan, NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture);

    /// <summary>Domains have more than four digits where a bridge made them up (VMD).</summary>
    [GeneratedRegex(@"\A([0-9a-f]{4,8}):([0-9a-f]{2}):([0-9a-f]{2})\.([0-7])\z")]
    private static partial Regex Form();
}

/// <summary>An address as a text in JSON.</summary>
internal sealed class PciAddressConverter : JsonConverter<PciAddress>
{
    /// <inheritdoc/>
    public override PciAddress Read(ref Utf8JsonReader reader, Type typeToConvert, JsonSerializerOptions options) =>
        PciAddress.TryParse(reader.GetString()) ?? throw new JsonException("not a PCI address");

    /// <inheritdoc/>
    public override void Write(Utf8JsonWriter writer, PciAddress value, JsonSerializerOptions options) => writer.WriteStringValue(value.ToString());
}
