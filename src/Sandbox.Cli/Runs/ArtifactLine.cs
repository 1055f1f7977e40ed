using System.Text.Json.Nodes;
using Sandbox.Cli.Terminal;

namespace Sandbox.Cli.Runs;

/// <summary>An artifact event as a line for people. Its path is the guest's: whoever prints the line makes it printable.</summary>
internal static class ArtifactLine
{
    public static string Of(JsonNode artifact)
    {
        var size = artifact["size"]?.GetValue<long>() ?? 0;

        // A line break in a name would make it look like two lines of ours.
        var path = artifact["path"]?.ToString().Replace("\n", "\\n", StringComparison.Ordinal);
        var line = $"artifact: {path} ({Sizes.Show(size)}, {artifact["mimeType"]})";
        return artifact["skipped"]?.ToString() is { Length: > 0 } why ? $"{line}, not kept: {why}" : line;
    }
}
