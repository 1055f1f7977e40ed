using System.Globalization;
using Spectre.Console;

namespace Sandbox.Bench.Report;

/// <summary>A result for people.</summary>
internal static class ResultTable
{
    public static void Write(IAnsiConsole console, BenchResult result)
    {
        var table = new Table { Border = TableBorder.Minimal };
        table.Title($"[bold]{Markup.Escape(result.Name)}[/]");
        table.AddColumn("what").AddColumn("unit");
        foreach (var column in (string[])["n", "min", "median", "p95", "max"])
        {
            table.AddColumn(new TableColumn(column).RightAligned());
        }

        foreach (var row in result.Rows)
        {
            var d = row.Values;
            table.AddRow([Markup.Escape(row.What), Markup.Escape(row.Unit), .. d.Count == 1
                ? (string[])["1", "", Text(d.Median), "", ""]
                : [d.Count.ToString(CultureInfo.InvariantCulture), Text(d.Min), Text(d.Median), Text(d.P95), Text(d.Max)]]);
        }

        console.Write(table);
        console.WriteLine(string.Create(
            CultureInfo.InvariantCulture, $"{result.Headline.Name} {Text(result.Headline.Value)} against {Text(result.Baseline.Value)} ({result.Baseline.Name}): ratio {Text(result.Ratio)}"));
        foreach (var verdict in result.Verdicts)
        {
            console.MarkupLine($"[{(verdict.Met ? "green" : "red")}]{Markup.Escape(verdict.ToString())}[/]");
        }

        foreach (var note in result.Notes)
        {
            console.WriteLine("note: " + note);
        }

        console.WriteLine();
    }

    private static string Text(double value) => Math.Abs(value) switch
    {
        >= 1000 => value.ToString("N0", CultureInfo.InvariantCulture),
        >= 100 => value.ToString("0.0", CultureInfo.InvariantCulture),
        _ => value.ToString("0.00", CultureInfo.InvariantCulture),
    };
}
