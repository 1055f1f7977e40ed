using System.CommandLine;
using System.Text.Json.Nodes;
using Sandbox.Cli.Api;
using Sandbox.Cli.Terminal;

namespace Sandbox.Cli.Commands;

/// <summary>Makes a session: a new one, or one that begins with a checkpoint.</summary>
internal static class CreateSessionCommand
{
    public static Command Create(Say say)
    {
        var server = new ServerOption();
        var sizes = new SizeOptions();
        var keeping = new KeepingOptions();
        var egress = new EgressOptions();
        var from = new Option<string?>("--from") { Description = "Begin with a checkpoint (its id, name or number); template, sizes and variables are then the checkpoint's", HelpName = "SESSION/CHECKPOINT" };
        var label = new Option<string[]>("--label") { Description = "Label of your own; repeatable", HelpName = "NAME=VALUE" };
        var json = new Option<bool>("--json") { Description = "Print the whole session for machines" };
        var command = new DetailedCommand("create", "Create a session, wait until it runs, and print its id.", """
              sandbox session create --memory 1G --idle-timeout 10m --idle-action terminate
              sandbox session create --checkpoint-every 5m --checkpoint-on-idle
              sandbox session create --from ID/before-migration
              sandbox session create --preset pip --allow api.example.com --secret example-key
            """)
        { from, label, json };
        sizes.AddTo(command);
        keeping.AddTo(command);
        egress.AddTo(command);
        server.AddTo(command);
        command.SetAction(async (parsed, cancellationToken) =>
        {
            var body = sizes.ToBody(parsed);
            keeping.Put(parsed, body);
            if (egress.Policy(parsed) is { } policy)
            {
                body["egress"] = policy;
            }

            var origin = parsed.GetValue(from) is { } text ? Origin(text) : ((string Session, string Checkpoint)?)null;
            if (parsed.GetValue(label) is { Length: > 0 } labels)
            {
                body["metadata"] = new JsonObject(labels.Select(l => l.Split('=', 2)).Select(
                    p => KeyValuePair.Create(p[0], (JsonNode?)(p.Length == 2 ? p[1] : throw new UserException($"--label '{p[0]}': write NAME=VALUE", ExitCodes.Usage)))));
            }

            using var api = server.Connect(parsed);
            if (origin is { } o)
            {
                body["from"] = new JsonObject { ["sessionId"] = o.Session, ["checkpointId"] = await api.Checkpoints.FindAsync(o.Session, o.Checkpoint, cancellationToken) };
            }

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

    /// <summary>Splits <c>SESSION/CHECKPOINT</c>. A name may have slashes of its own, an id has none.</summary>
    internal static (string Session, string Checkpoint) Origin(string text) => text.Split('/', 2) is [{ Length: > 0 } session, { Length: > 0 } checkpoint]
        ? (session, checkpoint)
        : throw new UserException($"--from '{text}': write SESSION/CHECKPOINT", ExitCodes.Usage);
}
