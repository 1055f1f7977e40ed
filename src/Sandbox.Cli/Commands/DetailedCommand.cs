using System.CommandLine;
using System.CommandLine.Help;
using System.CommandLine.Invocation;

namespace Sandbox.Cli.Commands;

/// <summary>A command whose help has a second part: one line in the list of commands, examples and exit codes on its own page.</summary>
internal sealed class DetailedCommand(string name, string line, string details) : Command(name, line)
{
    /// <summary>What its own page says beyond the line.</summary>
    public string Details { get; } = details;

    /// <summary>Makes <c>--help</c> print the details as well.</summary>
    public static RootCommand Support(RootCommand root)
    {
        foreach (var option in root.Options.OfType<HelpOption>())
        {
            option.Action = new Page((HelpAction)option.Action!);
        }

        return root;
    }

    private sealed class Page(HelpAction plain) : SynchronousCommandLineAction
    {
        public override bool ClearsParseErrors => true;

        public override int Invoke(ParseResult parseResult)
        {
            var code = plain.Invoke(parseResult);
            if (parseResult.CommandResult.Command is DetailedCommand command)
            {
                parseResult.InvocationConfiguration.Output.WriteLine(command.Details);
            }

            return code;
        }
    }
}
