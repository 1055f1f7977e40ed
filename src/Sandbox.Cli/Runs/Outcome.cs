using System.Text.Json.Nodes;

namespace Sandbox.Cli.Runs;

/// <summary>What an exit event means to a shell.</summary>
/// <param name="ExitCode">Exit code of this program.</param>
/// <param name="Explanation">One line for standard error, or <see langword="null"/> if the code ended by itself.</param>
internal sealed record Outcome(int ExitCode, string? Explanation)
{
    public static Outcome Of(JsonNode exit)
    {
        var reason = exit["reason"]?.ToString() ?? "";
        var code = exit["exitCode"]?.GetValue<int>() is { } said and >= 0 and <= 255 ? said : 255;
        var message = exit["message"]?.ToString() is { Length: > 0 } text ? text : null;
        var outcome = reason switch
        {
            "exited" => new Outcome(code, null),
            "timedOut" => new Outcome(ExitCodes.TimedOut, message ?? "its timeout had passed"),
            "outOfMemory" => new Outcome(ExitCodes.OutOfMemory, message ?? "it needed more memory than the session has; see --memory"),
            "signaled" or "killed" => new Outcome(code == 0 ? 137 : code, message ?? $"ended by signal {exit["signal"]}"),
            "notStarted" => new Outcome(code is 126 or 127 ? code : ExitCodes.NotStarted, message ?? "it could not be started"),
            _ => new Outcome(ExitCodes.SandboxFailed, message ?? "its microVM was lost"),
        };

        if (exit["diskFull"]?.GetValue<bool>() == true)
        {
            outcome = outcome with { Explanation = Join(outcome.Explanation, "the session's disk is full; see --disk") };
        }

        return exit["processLimitHit"]?.GetValue<bool>() == true
            ? outcome with { Explanation = Join(outcome.Explanation, "it hit the limit of processes") }
            : outcome;
    }

    private static string Join(string? first, string second) => first is null ? second : $"{first}; {second}";
}
