using System.Text.Json.Serialization;

namespace Sandbox.Wasm.Worker.Languages;

/// <summary>A line for driver.py.</summary>
internal sealed record PythonRequest
{
    /// <summary>Not code, but whose it is from now on.</summary>
    public bool Adopt { get; init; }

    public string Code { get; init; } = "";

    public string Cwd { get; init; } = "";

    public Dictionary<string, string> Env { get; init; } = [];
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase)]
[JsonSerializable(typeof(PythonRequest))]
internal sealed partial class PythonJson : JsonSerializerContext;
