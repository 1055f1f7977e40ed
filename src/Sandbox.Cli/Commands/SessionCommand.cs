using System.CommandLine;
using System.Text.Json.Nodes;
using Sandbox.Cli.Api;
using Sandbox.Cli.Runs;
using Sandbox.Cli.Terminal;
using Spectre.Console;

namespace Sandbox.Cli.Commands;

/// <summary>Sessions: make, look at, use, remove.</summary>
internal static class SessionCommand
{
    public static Command Create(Say say)
    {
        var command = new DetailedCommand("session", "Work with sessions of a server.", """
              id=$(sandbox session create)
              sandbox session cp data.csv $id:data.csv
              sandbox session exec $id wc -l data.csv
              sandbox session shell $id
              sandbox session pause $id               # whatever needs its machine resumes it
              sandbox session checkpoint $id --name before; sandbox session rollback $id before
              sandbox session fork $id --count 3
              sandbox session rm $id
            """)
        {
            CreateSessionCommand.Create(say), List(say), Show(say), Execute(say), ShellCommand.Create(), CopyCommand.Create(say),
        };
        foreach (var verb in CheckpointCommands.Create(say))
        {
            command.Subcommands.Add(verb);
        }

        command.Subcommands.Add(Remove(say));
        return command;
    }

    private static Command List(Say say)
    {
        var server = new ServerOption();
        var state = new Option<string?>("--state") { Description = "Only those in this state", HelpName = "STATE" };
        var json = new Option<bool>("--json") { Description = "For machines" };
        var command = new Command("ls", "List sessions, oldest first.") { state, json };
        server.AddTo(command);
        command.SetAction(async (parsed, cancellationToken) =>
        {
            using var api = server.Connect(parsed);
            var sessions = new JsonArray();
            string? cursor = null;
            do
            {
                var path = "/v1/sessions?limit=200" + (cursor is null ? "" : $"&cursor={SandboxApi.Escape(cursor)}") + (parsed.GetValue(state) is { } s ? $"&state={SandboxApi.Escape(s)}" : "");
                var page = await api.GetAsync(path, cancellationToken);
                foreach (var session in page["sessions"]!.AsArray())
                {
                    sessions.Add(session!.DeepClone());
                }

                cursor = page["nextCursor"]?.ToString();
            }
            while (cursor is not null);

            if (parsed.GetValue(json))
            {
                JsonOutput.Write(new JsonObject { ["sessions"] = sessions });
                return ExitCodes.Success;
            }

            var table = new Table().Border(TableBorder.Simple).AddColumns("id", "state", "template", "size", "host", "created", "cause");
            foreach (var session in sessions)
            {
                table.AddRow(
                    Cells.Text(session!, "id"), Cells.State(session!["state"]?.ToString() ?? ""), Cells.Text(session, "template"), $"{session["vcpus"]} CPU, {session["memoryMiB"]} MiB", Cells.Text(session, "hostId"),
                    Cells.Age(session["createdAt"]), Cells.Text(session, "cause"));
            }

            say.Output.Write(table);
            return ExitCodes.Success;
        });
        return command;
    }

    private static Command Show(Say say)
    {
        var server = new ServerOption();
        var id = Id();
        var json = new Option<bool>("--json") { Description = "For machines" };
        var command = new Command("show", "Show a session, what its machine uses if it runs, and its newest executions. Never wakes it.") { id, json };
        server.AddTo(command);
        command.SetAction(async (parsed, cancellationToken) =>
        {
            using var api = server.Connect(parsed);
            var path = $"/v1/sessions/{SandboxApi.Escape(parsed.GetValue(id)!)}";
            var session = await api.GetAsync(path, cancellationToken);
            if (session["state"]?.ToString() == "running" && await MetricsAsync(api, path, cancellationToken) is { } metrics)
            {
                session["metrics"] = metrics;
            }

            session["executions"] = (await api.GetAsync($"{path}/executions?limit=10", cancellationToken))["executions"]?.DeepClone();
            if (parsed.GetValue(json))
            {
                JsonOutput.Write(session);
                return ExitCodes.Success;
            }

            var table = new Table().Border(TableBorder.None).HideHeaders().AddColumns("", "");
            foreach (var (name, value) in session.AsObject().Where(p => p.Value is not null and not JsonArray { Count: 0 } and not JsonObject { Count: 0 } && p.Key != "executions"))
            {
                var text = value is JsonValue ? value.ToString() : value!.ToJsonString(JsonOutput.Compact);
                table.AddRow($"[grey]{Markup.Escape(name)}[/]", name == "state" ? Cells.State(text) : Markup.Escape(Say.Printable(text)));
            }

            say.Output.Write(table);
            var executions = new Table().Border(TableBorder.Simple).AddColumns("execution", "state", "started", "exit", "what");
            foreach (var execution in session["executions"]?.AsArray() ?? [])
            {
                // What runs in a machine that is put away stands still.
                var stands = session["state"]?.ToString() == "paused" && execution!["state"]?.ToString() == "running";
                executions.AddRow(Cells.Text(execution!, "id"), stands ? Cells.State("paused") : Cells.Text(execution!, "state"), Cells.Age(execution!["startedAt"]), Markup.Escape(execution["exit"]?["exitCode"]?.ToString() ?? ""), Cells.Text(execution, "title"));
            }

            if (executions.Rows.Count > 0)
            {
                say.Output.Write(executions);
            }

            return ExitCodes.Success;
        });
        return command;
    }

    /// <summary>What the machine uses, or <see langword="null"/> if the session has been paused just now.</summary>
    private static async Task<JsonNode?> MetricsAsync(SandboxApi api, string path, CancellationToken cancellationToken)
    {
        try
        {
            return (await api.GetAsync($"{path}/metrics?wake=false", cancellationToken)).DeepClone();
        }
        catch (ApiException e) when (e.Code == "conflict")
        {
            return null;
        }
    }

    private static Command Execute(Say say)
    {
        var server = new ServerOption();
        var wake = new WakeOption();
        var id = Id();
        var words = new Argument<string[]>("command") { Description = "Program and arguments; our own options come before the session's id or between the two", Arity = ArgumentArity.OneOrMore };
        var cwd = new Option<string?>("--cwd") { Description = "Working directory", HelpName = "DIR" };
        var user = new Option<string?>("--user") { Description = "User inside the session", HelpName = "NAME" };
        var timeout = new Option<string?>("--timeout") { Description = "End it after so long: 90s, 5m", HelpName = "TIME" };
        var shell = new Option<bool>("--shell") { Description = "The words are one command line for bash" };
        var interactive = new Option<bool>("--interactive", "-i") { Description = "Send standard input along" };
        var command = new DetailedCommand("exec", "Run a command in a session (a paused one is resumed first), with its output live and its exit code ours.", $"""
              sandbox session exec ID python3 -c 'print(1)'
              sandbox session exec --shell ID 'ls | wc -l'

            {ExitCodes.Help}
            """)
        { id, words, cwd, user, timeout, shell, interactive };
        wake.AddTo(command);
        server.AddTo(command);
        command.SetAction(async (parsed, cancellationToken) =>
        {
            var argv = parsed.GetValue(words)!;
            var body = parsed.GetValue(shell)
                ? new JsonObject { ["shell"] = string.Join(' ', argv) }
                : new JsonObject { ["argv"] = new JsonArray([.. argv.Select(a => (JsonNode)a)]) };
            foreach (var (name, value) in new[] { ("cwd", parsed.GetValue(cwd)), ("user", parsed.GetValue(user)) })
            {
                if (value is not null)
                {
                    body[name] = value;
                }
            }

            Sizes.AddTime(body, "timeoutSeconds", "--timeout", parsed.GetValue(timeout));
            using var api = server.Connect(parsed, wake.MayWake(parsed));
            using var live = new LiveExecution(api, parsed.GetValue(id)!, say);
            var outcome = await live.RunAsync(body, parsed.GetValue(interactive), cancellationToken);
            if (outcome.Explanation is { } explanation)
            {
                say.Note(explanation);
            }

            return outcome.ExitCode;
        });
        return command;
    }

    private static Command Remove(Say say)
    {
        var server = new ServerOption();
        var ids = new Argument<string[]>("id") { Description = "Session ids", Arity = ArgumentArity.OneOrMore };
        var command = new Command("rm", "End sessions and remove their machines, files and outputs.") { ids };
        server.AddTo(command);
        command.SetAction(async (parsed, cancellationToken) =>
        {
            using var api = server.Connect(parsed);
            var failed = 0;
            foreach (var id in parsed.GetValue(ids)!)
            {
                try
                {
                    await api.DeleteSessionAsync(id, cancellationToken);
                    say.Note($"session {id} is removed");
                }
                catch (ApiException e)
                {
                    say.Fail($"{id}: {e.Message}");
                    failed++;
                }
            }

            return failed == 0 ? ExitCodes.Success : ExitCodes.Failure;
        });
        return command;
    }

    internal static Argument<string> Id() => new("id") { Description = "Session id" };
}
