using Spectre.Console;

namespace Sandbox.Cli.Terminal;

/// <summary>What the program itself says, always on standard error, so that standard output is the code's alone. Colours on a terminal only.</summary>
internal sealed class Say
{
    public Say()
    {
        var plain = Console.IsErrorRedirected || Environment.GetEnvironmentVariable("NO_COLOR") is { Length: > 0 };
        Error = AnsiConsole.Create(new AnsiConsoleSettings
        {
            Out = new AnsiConsoleOutput(Console.Error),
            Ansi = plain ? AnsiSupport.No : AnsiSupport.Detect,
            ColorSystem = plain ? ColorSystemSupport.NoColors : ColorSystemSupport.Detect,
            Interactive = Console.IsErrorRedirected ? InteractionSupport.No : InteractionSupport.Detect,
        });
        var plainOut = Console.IsOutputRedirected || Environment.GetEnvironmentVariable("NO_COLOR") is { Length: > 0 };
        Output = AnsiConsole.Create(new AnsiConsoleSettings
        {
            Ansi = plainOut ? AnsiSupport.No : AnsiSupport.Detect,
            ColorSystem = plainOut ? ColorSystemSupport.NoColors : ColorSystemSupport.Detect,
        });

        // What is piped somewhere is not to be folded at eighty columns.
        Error.Profile.Width = Console.IsErrorRedirected ? int.MaxValue / 2 : Error.Profile.Width;
        Output.Profile.Width = Console.IsOutputRedirected ? 400 : Output.Profile.Width;
    }

    /// <summary>Standard error, with mark-up.</summary>
    public IAnsiConsole Error { get; }

    /// <summary>Standard output, with mark-up; for tables that were asked for.</summary>
    public IAnsiConsole Output { get; }

    /// <summary>Standard error is a terminal: progress bars make sense.</summary>
    public static bool IsInteractive => !Console.IsErrorRedirected;

    /// <summary>A line about what happened. Control characters are made visible: part of it may come from the guest.</summary>
    public void Note(string text) => Error.MarkupLineInterpolated($"[grey]sandbox:[/] {Printable(text)}");

    /// <summary>A line about what went wrong.</summary>
    public void Fail(string text) => Error.MarkupLineInterpolated($"[red]sandbox: error:[/] {Printable(text)}");

    /// <summary>Does something that takes its time: said on a terminal while it lasts, and nowhere else.</summary>
    public Task<T> WhileAsync<T>(string doing, Func<Task<T>> work) => IsInteractive ? Error.Status().StartAsync(Markup.Escape(Printable(doing)), _ => work()) : work();

    /// <summary>Text from outside without control characters, which could drive the reader's terminal.</summary>
    public static string Printable(string text) =>
        text.Any(IsUnsafe) ? string.Concat(text.Select(c => IsUnsafe(c) ? '\uFFFD' : c)) : text;

    // Also the characters that reorder text, with which a name can pretend to be another.
    private static bool IsUnsafe(char c) => (char.IsControl(c) && c is not ('\n' or '\t')) || c is (>= '\u202A' and <= '\u202E') or (>= '\u2066' and <= '\u2069');
}
