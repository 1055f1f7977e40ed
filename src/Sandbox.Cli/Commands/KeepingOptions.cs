using System.CommandLine;
using System.Text.Json.Nodes;
using Sandbox.Cli.Terminal;

namespace Sandbox.Cli.Commands;

/// <summary>How long a session is kept, what becomes of it when nobody uses it, and when checkpoints are taken.</summary>
internal sealed class KeepingOptions
{
    private readonly Option<string?> _idle = new("--idle-timeout") { Description = "Pause it (see --idle-action) after so long without use: 30m, 2h, 1d", HelpName = "TIME" };
    private readonly Option<string?> _lifetime = new("--max-lifetime") { Description = "End it after so long whatever it does", HelpName = "TIME" };
    private readonly Option<string?> _action = new("--idle-action") { Description = "What happens after the idle timeout; default: pause, where its backend can" };
    private readonly Option<string?> _every = new("--checkpoint-every") { Description = "Take a checkpoint so often while it is in use: 10s to 1d", HelpName = "TIME" };
    private readonly Option<bool> _onIdle = new("--checkpoint-on-idle") { Description = "Take a checkpoint whenever it has been idle for ten seconds" };
    private readonly Option<bool> _after = new("--checkpoint-after-execution") { Description = "Take a checkpoint after each execution" };

    public void AddTo(Command command)
    {
        _action.AcceptOnlyFromAmong("pause", "terminate");
        foreach (var option in (Option[])[_idle, _lifetime, _action, _every, _onIdle, _after])
        {
            command.Options.Add(option);
        }
    }

    /// <summary>Puts what was said into the body of the create call.</summary>
    public void Put(ParseResult parsed, JsonObject body)
    {
        Sizes.AddTime(body, "idleTimeoutSeconds", "--idle-timeout", parsed.GetValue(_idle));
        Sizes.AddTime(body, "maxLifetimeSeconds", "--max-lifetime", parsed.GetValue(_lifetime));
        if (parsed.GetValue(_action) is { } action)
        {
            body["idleAction"] = action;
        }

        var policy = new JsonObject();
        Sizes.AddTime(policy, "everySeconds", "--checkpoint-every", parsed.GetValue(_every));
        foreach (var (member, isWanted) in new[] { ("onIdle", parsed.GetValue(_onIdle)), ("afterEachExecution", parsed.GetValue(_after)) })
        {
            if (isWanted)
            {
                policy[member] = true;
            }
        }

        if (policy.Count > 0)
        {
            body["checkpoints"] = policy;
        }
    }
}
