using System.CommandLine;

namespace Sandbox.Cli.Commands;

/// <summary>Not to wake a paused session; shared by the commands that need its machine.</summary>
internal sealed class WakeOption
{
    private readonly Option<bool> _no = new("--no-wake") { Description = "If the session is paused, fail instead of resuming it" };

    public void AddTo(Command command) => command.Options.Add(_no);

    /// <summary>Whether calls may wake it.</summary>
    public bool MayWake(ParseResult parsed) => !parsed.GetValue(_no);
}
