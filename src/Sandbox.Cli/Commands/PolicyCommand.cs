using System.CommandLine;
using System.Globalization;
using System.Text.Json;
using System.Text.Json.Nodes;
using Sandbox.Cli.Api;
using Sandbox.Cli.Terminal;
using Spectre.Console;

namespace Sandbox.Cli.Commands;

/// <summary>What sessions may reach outside, and what they did.</summary>
internal static class PolicyCommand
{
    private const int FollowSeconds = 20;
    private static readonly JsonSerializerOptions Indented = new() { WriteIndented = true };

    public static Command Create(Say say) => new DetailedCommand("policy", "Look at and change what sessions may reach outside. Until a policy says otherwise that is nothing.", """
          sandbox policy set ID --preset pip --allow api.example.com
          sandbox policy log ID --follow
          sandbox policy set ID --dry-run && … && sandbox policy suggest ID >policy.json
          sandbox policy default --egress policy.json
        """)
    { Show(), Set(say), Log(say), Suggest(say), Decide(say), Default(say), Presets(say) };

    private static Command Show() => OfSession("show", "Print a session's policy and the sums of its traffic, as JSON.", async (api, path, _, cancellationToken) => Print(await api.GetAsync(path, cancellationToken)));

    private static Command Set(Say say)
    {
        var options = new EgressOptions();
        var command = OfSession("set", "Put another policy in force. Connections that it permits go on, others are ended. Without options: nothing is reachable any more.", async (api, path, parsed, cancellationToken) =>
        {
            var answer = await api.SendAsync(HttpMethod.Put, path, options.Policy(parsed) ?? [], cancellationToken, Guid.NewGuid().ToString("N"));
            say.Note($"policy version {answer["version"]} is in force");
        });
        options.AddTo(command);
        return command;
    }

    private static Command Suggest(Say say) => OfSession("suggest", "Print the smallest policy that lets through what the session's log says was, or would have been, denied.", async (api, path, _, cancellationToken) =>
    {
        var answer = await api.GetAsync(path + "/suggestion", cancellationToken);
        foreach (var reason in answer["reasons"]?.AsArray() ?? [])
        {
            say.Note(reason!.ToString());
        }

        Print(answer["policy"]!);
    });

    private static Command Log(Say say)
    {
        var follow = new Option<bool>("--follow", "-f") { Description = "Go on as lines are written, until Ctrl-C" };
        var denied = new Option<bool>("--denied") { Description = "Only what was, or would have been, denied" };
        var json = new Option<bool>("--json") { Description = "One JSON object a line" };
        var command = OfSession("log", "Print a session's egress log: name look-ups, connections, requests, what became of them and why.", async (api, path, parsed, cancellationToken) =>
        {
            var table = new Table().Border(TableBorder.Simple).AddColumns("line", "time", "what", "where", "outcome", "by", "why");
            var more = parsed.GetValue(follow);
            for (var from = 1L; ;)
            {
                var page = await api.GetAsync(string.Create(CultureInfo.InvariantCulture, $"{path}/log?from={from}&max=1000&wait={(more && from > 1 ? FollowSeconds : 0)}"), cancellationToken);
                var records = page["records"]!.AsArray();
                foreach (var record in records.Where(r => !parsed.GetValue(denied) || r!["outcome"]?.ToString() is "denied" or "wouldDeny" or "asked"))
                {
                    if (parsed.GetValue(json))
                    {
                        Console.WriteLine(record!.ToJsonString());
                    }
                    else if (more)
                    {
                        say.Output.MarkupLine(string.Join("  ", Row(record!)));
                    }
                    else
                    {
                        table.AddRow(Row(record!));
                    }
                }

                if (records.Count == 0 && !more)
                {
                    break;
                }

                from = page["next"]!.GetValue<long>();
            }

            if (!parsed.GetValue(json))
            {
                say.Output.Write(table);
            }
        });
        foreach (var option in (Option[])[follow, denied, json])
        {
            command.Options.Add(option);
        }

        return command;
    }

    private static Command Decide(Say say)
    {
        var host = new Argument<string>("host") { Description = "Host that the auditor asked about" };
        var deny = new Option<bool>("--deny") { Description = "Deny instead of allowing" };
        var method = new Option<string?>("--method") { Description = "Only this method", HelpName = "METHOD" };
        var urlPath = new Option<string?>("--path") { Description = "Only this path; a final * stands for the rest", HelpName = "PATH" };
        var command = OfSession("decide", "Answer an auditor that asked: requests like it are allowed, or denied, from now on.", async (api, path, parsed, cancellationToken) =>
        {
            var body = new JsonObject { ["host"] = parsed.GetValue(host), ["allow"] = !parsed.GetValue(deny) };
            foreach (var (name, value) in new[] { ("method", parsed.GetValue(method)), ("path", parsed.GetValue(urlPath)) })
            {
                if (value is not null)
                {
                    body[name] = value;
                }
            }

            await api.SendAsync(HttpMethod.Post, path + "/decisions", body, cancellationToken);
            say.Note($"requests to {parsed.GetValue(host)} are {(parsed.GetValue(deny) ? "denied" : "allowed")} from now on");
        });
        command.Arguments.Add(host);
        foreach (var option in (Option[])[deny, method, urlPath])
        {
            command.Options.Add(option);
        }

        return command;
    }

    private static Command Default(Say say)
    {
        var server = new ServerOption();
        var options = new EgressOptions();
        var command = new Command("default", "Print the policy of your sessions that name none; with options: set it, for sessions made from now on.");
        options.AddTo(command);
        server.AddTo(command);
        command.SetAction(async (parsed, cancellationToken) =>
        {
            using var api = server.Connect(parsed);
            if (options.Policy(parsed) is { } policy)
            {
                await api.SendAsync(HttpMethod.Put, "/v1/egress", policy, cancellationToken);
                say.Note("sessions made from now on have this policy unless they name another");
                return ExitCodes.Success;
            }

            Print(await api.GetAsync("/v1/egress", cancellationToken));
            return ExitCodes.Success;
        });
        return command;
    }

    private static Command Presets(Say say) => NamedThings.List(
        say, "presets", "List the presets: names for the hosts that a tool needs.", "/v1/egress/presets", "presets", ("preset", p => Cells.Text(p, "name")), ("for", p => Cells.Text(p, "description")), ("hosts", p => Cells.Texts(p, "hosts")));

    private static Command OfSession(string name, string line, Func<SandboxApi, string, ParseResult, CancellationToken, Task> act)
    {
        var server = new ServerOption();
        var id = SessionCommand.Id();
        var command = new Command(name, line) { id };
        server.AddTo(command);
        command.SetAction(async (parsed, cancellationToken) =>
        {
            using var api = server.Connect(parsed);
            await act(api, $"/v1/sessions/{SandboxApi.Escape(parsed.GetValue(id)!)}/egress", parsed, cancellationToken);
            return ExitCodes.Success;
        });
        return command;
    }

    private static string[] Row(JsonNode record)
    {
        var port = record["port"] is { } p ? ":" + p : "";
        var where = $"{record["method"]} {record["host"] ?? record["address"]}{port}{record["path"]}".Trim();
        var outcome = record["outcome"]?.ToString() ?? "";
        var color = outcome switch
        {
            "allowed" => "green",
            "denied" or "failed" => "red",
            _ => "yellow",
        };
        var count = record["count"]?.GetValue<long>() is { } n and > 1 ? string.Create(CultureInfo.InvariantCulture, $" ×{n}") : "";
        return
        [
            Cells.Text(record, "seq"), Cells.Age(record["at"]), Cells.Text(record, "kind"), Markup.Escape(Say.Printable(where)), $"[{color}]{Markup.Escape(Say.Printable(outcome + count))}[/]", Cells.Text(record, "by"),
            Cells.Text(record, "reason"),
        ];
    }

    private static void Print(JsonNode node) => Console.WriteLine(node.ToJsonString(Indented));
}
