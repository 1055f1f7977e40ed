using System.Text.Json.Serialization;

namespace Sandbox.Wasm.Worker.Languages;

/// <summary>What a JavaScript guest is told at its start.</summary>
internal sealed record JavaScriptInfo(Dictionary<string, string> Env, string[] Argv);

/// <summary>An error as the guest tells it.</summary>
internal sealed record JavaScriptError(string Name, string Value, string Traceback);

/// <summary>What a guest is told of a file.</summary>
internal sealed record JavaScriptStat(string Type, long Size, double MtimeMs, uint Mode);

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase)]
[JsonSerializable(typeof(JavaScriptInfo))]
[JsonSerializable(typeof(JavaScriptError))]
[JsonSerializable(typeof(JavaScriptStat))]
[JsonSerializable(typeof(Dictionary<string, string?>), TypeInfoPropertyName = "DictionaryStringString")]
[JsonSerializable(typeof(List<string>))]
internal sealed partial class JavaScriptJson : JsonSerializerContext;
