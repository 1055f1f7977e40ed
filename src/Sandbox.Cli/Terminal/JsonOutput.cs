using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Nodes;

namespace Sandbox.Cli.Terminal;

/// <summary>What <c>--json</c> prints.</summary>
internal static class JsonOutput
{
    /// <summary>Indented, camelCase, and without escapes that only browsers need.</summary>
    public static JsonSerializerOptions Options { get; } = new(JsonSerializerDefaults.Web) { WriteIndented = true, Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    /// <summary>The same on one line.</summary>
    public static JsonSerializerOptions Compact { get; } = new(Options) { WriteIndented = false };

    public static void Write(JsonNode node) => Console.WriteLine(node.ToJsonString(Options));
}
