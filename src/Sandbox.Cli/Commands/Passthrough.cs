using System.CommandLine;

namespace Sandbox.Cli.Commands;

/// <summary>
/// As with python or ssh, what comes after the file (or the session and the command) belongs to the code, even where it looks like an option of ours:
/// <c>sandbox run job.py -v</c> gives <c>-v</c> to job.py. Done by putting <c>--</c> where our part ends.
/// </summary>
internal static class Passthrough
{
    /// <summary>The arguments with the end of our own options marked.</summary>
    public static string[] Mark(RootCommand root, string[] arguments)
    {
        var (command, at) = arguments switch
        {
            ["run", ..] => (Find(root, "run"), 1),
            ["session", "exec", ..] => (Find(root, "session", "exec"), 2),
            _ => (null, 0),
        };
        if (command is null || arguments.Contains("--"))
        {
            return arguments;
        }

        // `exec` has the session's id of its own before the command.
        var own = command.Name == "exec" ? 1 : 0;
        for (; at < arguments.Length; at++)
        {
            var word = arguments[at];
            if (!word.StartsWith('-') || word == "-")
            {
                if (own-- == 0)
                {
                    return [.. arguments[..at], "--", .. arguments[at..]];
                }

                continue;
            }

            if (command.Options.FirstOrDefault(o => o.Name == word || o.Aliases.Contains(word)) is { Arity.MinimumNumberOfValues: > 0 })
            {
                at++;
            }
        }

        return arguments;
    }

    private static Command Find(Command root, params string[] path) => path.Aggregate(root, (c, name) => c.Subcommands.First(s => s.Name == name));
}
