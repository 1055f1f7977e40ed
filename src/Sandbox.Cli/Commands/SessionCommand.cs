using System.CommandLine;
using System.Globalization;
using System.Text.Json.Nodes;
using Sandbox.Cli.Api;
using Sandbox.Cli.Runs;
using Sandbox.Cli.Terminal;
using Spectre.Console;

namespace Sandbox.Cli.Commands;

/// <summary>Sessions: make, look at, use, remove.</summary>
internal static class SessionCommand
{
    public static Command Create(Say say) => new DetailedCommand("session", "Work with sessions of a server.", """
          id=$(sandbox session create)
          sandbox session cp data.csv $id:data.csv
          sandbox session exec $id wc -l data.csv
          sandbox session shell $id
          sandbox session rm $id
        """)
    {
        Make(say), List(say), Show(say), Execute(say), ShellCommand.Create(), CopyCommand.Create(say), Remove(say),
    };

    private static Command Make(Say say)
    {
        var server = new ServerOption();
        var sizes = new SizeOptions();
        var idle = new Option<string?>("--idle-timeout") { Description = "End it after so long without use: 30m, 2h, 1d", HelpName = "TIME" };
        var lifetime = new Option<string?>("--max-lifetime") { Description = "End it after so long whatever it does", HelpName = "TIME" };
        var label = new Option<string[]>("--label") { Description = "Label of your own; repeatable", HelpName = "NAME=VALUE" };
        var json = new Option<bool>("--json") { Description = "Print the whole session for machines" };
        var command = new Command("create", "Create a session, wait until it runs, and print its id.") { idle, lifetime, label, json };
        sizes.AddTo(command);
        server.AddTo(command);
        command.SetAction(async (parsed, cancellationToken) =>
        {
            var body = sizes.ToBody(parsed);
            AddTime(body, "idleTimeoutSeconds", "--idle-timeout", parsed.GetValue(idle));
            AddTime(body, "maxLifetimeSeconds", "--max-lifetime", parsed.GetValue(lifetime));
            if (parsed.GetValue(label) is { Length: > 0 } labels)
            {
                body["metadata"] = new JsonObject(labels.Select(l => l.Split('=', 2)).Select(
                    p => KeyValuePair.Create(p[0], (JsonNode?)(p.Length == 2 ? p[1] : throw new UserException($"--label '{p[0]}': write NAME=VALUE", ExitCodes.Usage)))));
            }

            using var api = server.Connect(parsed);
            var session = await api.CreateSessionAsync(body, cancellationToken);
            if (parsed.GetValue(json))
            {
                JsonOutput.Write(session);
                return ExitCodes.Success;
            }

            Console.WriteLine(SandboxApi.Text(session, "id"));
            foreach (var warning in session["warnings"]?.AsArray() ?? [])
            {
                say.Note(warning!.ToString());
            }

            return ExitCodes.Success;
        });
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
                    Cell(session!, "id"), Colour(session!["state"]?.ToString() ?? ""), Cell(session, "template"), $"{session["vcpus"]} CPU, {session["memoryMiB"]} MiB", Cell(session, "hostId"),
                    Age(session["createdAt"]), Cell(session, "cause"));
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
        var command = new Command("show", "Show a session and what its machine uses.") { id, json };
        server.AddTo(command);
        command.SetAction(async (parsed, cancellationToken) =>
        {
            using var api = server.Connect(parsed);
            var path = $"/v1/sessions/{SandboxApi.Escape(parsed.GetValue(id)!)}";
            var session = await api.GetAsync(path, cancellationToken);
            if (session["state"]?.ToString() == "running")
            {
                session["metrics"] = (await api.GetAsync($"{path}/metrics", cancellationToken)).DeepClone();
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
                table.AddRow($"[grey]{Markup.Escape(name)}[/]", Markup.Escape(Say.Printable(value is JsonValue ? value.ToString() : value!.ToJsonString(JsonOutput.Compact))));
            }

            say.Output.Write(table);
            var executions = new Table().Border(TableBorder.Simple).AddColumns("execution", "state", "started", "exit", "what");
            foreach (var execution in session["executions"]?.AsArray() ?? [])
            {
                executions.AddRow(Cell(execution!, "id"), Cell(execution!, "state"), Age(execution!["startedAt"]), Markup.Escape(execution["exit"]?["exitCode"]?.ToString() ?? ""), Cell(execution, "title"));
            }

            if (executions.Rows.Count > 0)
            {
                say.Output.Write(executions);
            }

            return ExitCodes.Success;
        });
        return command;
    }

    private static Command Execute(Say say)
    {
        var server = new ServerOption();
        var id = Id();
        var words = new Argument<string[]>("command") { Description = "Program and arguments; our own options come before the session's id or between the two", Arity = ArgumentArity.OneOrMore };
        var cwd = new Option<string?>("--cwd") { Description = "Working directory", HelpName = "DIR" };
        var user = new Option<string?>("--user") { Description = "User inside the session", HelpName = "NAME" };
        var timeout = new Option<string?>("--timeout") { Description = "End it after so long: 90s, 5m", HelpName = "TIME" };
        var shell = new Option<bool>("--shell") { Description = "The words are one command line for bash" };
        var interactive = new Option<bool>("--interactive", "-i") { Description = "Send standard input along" };
        var command = new DetailedCommand("exec", "Run a command in a session, with its output live and its exit code ours.", $"""
              sandbox session exec ID python3 -c 'print(1)'
              sandbox session exec --shell ID 'ls | wc -l'

            {ExitCodes.Help}
            """)
        { id, words, cwd, user, timeout, shell, interactive };
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

            AddTime(body, "timeoutSeconds", "--timeout", parsed.GetValue(timeout));
            using var api = server.Connect(parsed);
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

    private static void AddTime(JsonObject body, string member, string option, string? text)
    {
        if (text is not null)
        {
            body[member] = (Sizes.ParseDuration(text) ?? throw new UserException($"{option} '{text}': write for example 90s, 5m or 2h", ExitCodes.Usage)).TotalSeconds;
        }
    }

    private static string Cell(JsonNode node, string name) => Markup.Escape(Say.Printable(node[name]?.ToString() ?? ""));

    private static string Colour(string state) => state switch
    {
        "running" => "[green]running[/]",
        "failed" => "[red]failed[/]",
        _ => Markup.Escape(state),
    };

    private static string Age(JsonNode? time)
    {
        if (time is null || !DateTimeOffset.TryParse(time.ToString(), CultureInfo.InvariantCulture, out var at))
        {
            return "";
        }

        var age = DateTimeOffset.UtcNow - at;
        return age.TotalSeconds < 90 ? string.Create(CultureInfo.InvariantCulture, $"{Math.Max(0, age.TotalSeconds):0} s ago")
            : age.TotalMinutes < 90 ? string.Create(CultureInfo.InvariantCulture, $"{age.TotalMinutes:0} min ago")
            : at.ToString("yyyy-MM-dd HH:mm 'UTC'", CultureInfo.InvariantCulture);
    }
}
