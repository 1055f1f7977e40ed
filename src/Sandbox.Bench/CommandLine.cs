using System.CommandLine;
using Sandbox.Bench.Benches;
using Sandbox.Isolation.Images;
using Spectre.Console;

namespace Sandbox.Bench;

/// <summary>The command line of <c>scripts/bench</c>.</summary>
internal static class CommandLine
{
    private static readonly Argument<string> Name = new("name") { Description = "A bench, or all, or list", HelpName = "NAME" };
    private static readonly Option<bool> Json = new("--json") { Description = "The last line of standard output is the result as one JSON object" };
    private static readonly Option<int?> Samples = new("--samples") { Description = "Samples of each thing, where a bench takes several", HelpName = "N" };
    private static readonly Option<int> Sessions = new("--sessions") { Description = "Sessions of the control bench", HelpName = "N", DefaultValueFactory = _ => 10_000 };
    private static readonly Option<bool> Full = new("--full") { Description = "Also what takes long: 100,000 sessions in control" };
    private static readonly Option<bool> Profile = new("--profile") { Description = "Say where the time goes inside the server" };
    private static readonly Option<string> Accelerator = new("--accelerator") { Description = "auto, kvm or tcg", HelpName = "NAME", DefaultValueFactory = _ => "auto" };

    public static async Task<int> InvokeAsync(string[] arguments)
    {
        var root = new RootCommand("""
            Measures Sandbox against raw baselines in the same run, and holds it to the targets of docs/specification.md.
            Exit codes: 0 every target met; 3 one missed; 1 a bench could not be run; 2 wrong usage; 130 interrupted.
            """)
        {
            Name, Json, Samples, Sessions, Full, Profile, Accelerator,
        };
        root.SetAction(RunAsync);
        var parsed = root.Parse(arguments);
        if (parsed.Errors.Count > 0 && parsed.Action is not System.CommandLine.Invocation.CommandLineAction { ClearsParseErrors: true })
        {
            await Console.Error.WriteLineAsync("error: " + string.Join("; ", parsed.Errors.Select(e => e.Message)));
            return ExitCodes.Usage;
        }

        return await parsed.InvokeAsync(new InvocationConfiguration { EnableDefaultExceptionHandler = false, ProcessTerminationTimeout = null });
    }

    private static async Task<int> RunAsync(ParseResult parsed, CancellationToken cancellationToken)
    {
        var name = parsed.GetValue(Name)!;
        if (name == "list")
        {
            foreach (var bench in BenchList.All)
            {
                await Console.Out.WriteLineAsync($"{bench.Name,-8} {bench.Summary}{(bench.Targets.Count > 0 ? $" [{string.Join("; ", bench.Targets)}]" : "")}");
            }

            return ExitCodes.Met;
        }

        var benches = name == "all" ? BenchList.All : [.. BenchList.All.Where(b => b.Name == name)];
        if (benches.Count == 0)
        {
            await Console.Error.WriteLineAsync($"error: there is no bench '{name}'; there are {string.Join(", ", BenchList.All.Select(b => b.Name))}, and all and list");
            return ExitCodes.Usage;
        }

        using var stop = new StopSignal(cancellationToken);
        var context = new BenchContext
        {
            ImageRoot = Environment.GetEnvironmentVariable("SANDBOX_IMAGE_ROOT") is { Length: > 0 } set ? set : ImageStore.DefaultRoot,
            Accelerator = parsed.GetValue(Accelerator)!,
            Samples = parsed.GetValue(Samples) is { } samples ? Math.Max(1, samples) : null,
            Sessions = Math.Max(64, parsed.GetValue(Full) ? 100_000 : parsed.GetValue(Sessions)),
            OneOfAll = benches.Count > 1,
            Full = parsed.GetValue(Full),
            Profile = parsed.GetValue(Profile),
            Say = text => Console.Error.WriteLine("bench: " + text),
        };
        return await new BenchRun(Output(), parsed.GetValue(Json)).RunAsync(benches, context, stop.Token);
    }

    private static IAnsiConsole Output()
    {
        var plain = Console.IsOutputRedirected || Environment.GetEnvironmentVariable("NO_COLOR") is { Length: > 0 };
        var console = AnsiConsole.Create(new AnsiConsoleSettings
        {
            Ansi = plain ? AnsiSupport.No : AnsiSupport.Detect,
            ColorSystem = plain ? ColorSystemSupport.NoColors : ColorSystemSupport.Detect,
        });
        console.Profile.Width = Console.IsOutputRedirected ? 200 : console.Profile.Width;
        return console;
    }
}
