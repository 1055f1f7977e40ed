using System.Text.Json;
using System.Text.Json.Serialization;

namespace Sandbox.Wasm.Worker.Control;

/// <summary>
/// What a connection begins with: four bytes of length, little-endian, and this as JSON. Whoever can connect is the server: the socket is in a directory of this worker's own. The answer has the same form.
/// </summary>
internal sealed record Order
{
    /// <summary>Largest order, in bytes.</summary>
    public const int MaxBytes = 64 * 1024;

    /// <summary>
    /// <c>machine</c>: a new machine, whose disk is the descriptor that comes with it; the connection is its guest channel from then on, and its end is the machine's. <c>freeze</c>: a machine
    /// stands still, and its disk is complete, until the connection ends. <c>alive</c>: whether there is such a machine.
    /// </summary>
    public required string Operation { get; init; }

    /// <summary>The machine.</summary>
    public required string VmId { get; init; }

    public string SessionId { get; init; } = "";

    public string Hostname { get; init; } = "";

    /// <summary>Where the template's modules are, as this process sees it.</summary>
    public string ImageDirectory { get; init; } = "";

    public int Vcpus { get; init; } = 1;

    public double Cores { get; init; } = 1;

    public long MemoryBytes { get; init; }

    public long DiskBytes { get; init; }

    public static Order? Parse(ReadOnlySpan<byte> json)
    {
        try
        {
            return JsonSerializer.Deserialize(json, OrderJson.Default.Order);
        }
        catch (JsonException)
        {
            return null;
        }
    }
}

/// <summary>What the worker says to an order.</summary>
/// <param name="Problem">Why it is not done, or <see langword="null"/>.</param>
internal sealed record Answer(string? Problem)
{
    public byte[] Encode()
    {
        var json = JsonSerializer.SerializeToUtf8Bytes(this, OrderJson.Default.Answer);
        return [.. BitConverter.GetBytes(json.Length), .. json];
    }
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase)]
[JsonSerializable(typeof(Order))]
[JsonSerializable(typeof(Answer))]
internal sealed partial class OrderJson : JsonSerializerContext;
