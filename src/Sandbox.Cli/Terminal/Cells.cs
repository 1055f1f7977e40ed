using System.Globalization;
using System.Text.Json.Nodes;
using Spectre.Console;

namespace Sandbox.Cli.Terminal;

/// <summary>What the server's answers look like in a table: as mark-up, safe for a terminal.</summary>
internal static class Cells
{
    public static string Text(JsonNode node, string name) => Markup.Escape(Say.Printable(node[name]?.ToString() ?? ""));

    public static string Texts(JsonNode node, string name) => Markup.Escape(Say.Printable(string.Join(", ", node[name]!.AsArray())));

    /// <summary>A session's state: what runs is green, what waits for its owner yellow, what went wrong red.</summary>
    public static string State(string state) => state switch
    {
        "running" => "[green]running[/]",
        "paused" => "[yellow]paused[/]",
        "failed" => "[red]failed[/]",
        _ => Markup.Escape(Say.Printable(state)),
    };

    public static string Size(JsonNode? bytes) => bytes is null ? "" : Sizes.Show(bytes.GetValue<long>());

    public static string Milliseconds(JsonNode? seconds) => seconds is null ? "" : string.Create(CultureInfo.InvariantCulture, $"{seconds.GetValue<double>() * 1000:0} ms");

    public static string Age(JsonNode? time)
    {
        if (time is null || !DateTimeOffset.TryParse(time.ToString(), CultureInfo.InvariantCulture, out var at))
        {
            return "";
        }

        var age = DateTimeOffset.UtcNow - at;
        return age.TotalSeconds < 90 ? string.Create(CultureInfo.InvariantCulture, $"{Math.Max(0, age.TotalSeconds):0} s ago")
            : age.TotalMinutes < 90 ? string.Create(CultureInfo.InvariantCulture, $"{age.TotalMinutes:0} min ago")
            : at.ToString("yyyy-MM-dd HH:mm 'UTC'", CultureInfo.InvariantCulture);
    }
}
