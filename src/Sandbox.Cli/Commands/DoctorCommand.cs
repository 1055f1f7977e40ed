using System.CommandLine;
using System.Text.Json;
using Sandbox.Cli.Doctor;
using Sandbox.Cli.Terminal;
using Sandbox.Server;
using Spectre.Console;

namespace Sandbox.Cli.Commands;

/// <summary>What this machine can do, and what it lacks.</summary>
internal static class DoctorCommand
{
    public static Command Create(Say say)
    {
        var json = new Option<bool>("--json") { Description = "For machines" };
        var noProbe = new Option<bool>("--no-probe") { Description = "Do not boot a guest to see whether KVM works" };
        var config = new Option<string?>("--config") { Description = "Configuration file of the server", HelpName = "FILE" };
        var command = new DetailedCommand("doctor", "Say what this machine can do and what it lacks: kernel, KVM (by booting a guest), cgroups, tools, disk, images.", """
            Exit code 0 if sessions can run here, 1 if not.
            """)
        { json, noProbe, config };
        command.SetAction(async (parsed, cancellationToken) =>
        {
            var options = ServerSettings.Read(parsed.GetValue(config), Environment.GetEnvironmentVariables(), new Dictionary<string, string>());
            var findings = await new Diagnosis(options).RunAsync(!parsed.GetValue(noProbe), cancellationToken);
            var canRun = findings.All(f => f.Verdict != Verdict.Bad);
            if (parsed.GetValue(json))
            {
                Console.WriteLine(JsonSerializer.Serialize(
                    new { canRunSessions = canRun, findings = findings.Select(f => new { area = f.Area, name = f.Name, verdict = f.Verdict.ToString().ToLowerInvariant(), detail = f.Detail, remedy = f.Remedy }) }, JsonOutput.Options));
            }
            else
            {
                Print(findings, canRun, say);
            }

            return canRun ? ExitCodes.Success : ExitCodes.Failure;
        });
        return command;
    }

    private static void Print(IReadOnlyList<Finding> findings, bool canRun, Say say)
    {
        foreach (var area in findings.GroupBy(f => f.Area))
        {
            say.Output.MarkupLineInterpolated($"[bold]{area.Key}[/]");
            foreach (var finding in area)
            {
                var mark = finding.Verdict switch { Verdict.Good => "[green]ok  [/]", Verdict.Warning => "[yellow]warn[/]", Verdict.Bad => "[red]BAD [/]", _ => "    " };
                say.Output.MarkupLine($"  {mark} {Markup.Escape(finding.Name),-20} {Markup.Escape(finding.Detail)}");
                if (finding.Remedy is not null && finding.Verdict != Verdict.Good)
                {
                    say.Output.MarkupLine($"       {"",-20} [grey]to do:[/] {Markup.Escape(finding.Remedy)}");
                }
            }
        }

        say.Output.MarkupLine(canRun ? "[green]Sessions can run here.[/]" : "[red]Sessions cannot run here until what is marked BAD is mended.[/]");
    }
}
