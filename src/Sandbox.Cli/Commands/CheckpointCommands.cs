using System.CommandLine;
using System.Diagnostics;
using System.Globalization;
using System.Text.Json.Nodes;
using Sandbox.Cli.Api;
using Sandbox.Cli.Terminal;
using Spectre.Console;

namespace Sandbox.Cli.Commands;

/// <summary>Pauses and resumes a session, takes checkpoints and goes back to them, makes copies.</summary>
internal static class CheckpointCommands
{
    public static IEnumerable<Command> Create(Say say) => [Pause(say), Resume(say), Take(say), List(say), Delete(say), Rollback(say), Fork(say)];

    private static Command Pause(Say say) => Verb(say, "pause", "Save a session's machine and remove it. Its processes, variables and files are there again after a resume; commands that need the machine resume it by themselves.",
        "pausing", "is paused", (api, id, cancellationToken) => api.Checkpoints.PauseAsync(id, cancellationToken));

    private static Command Resume(Say say) => Verb(say, "resume", "Bring a paused session back and wait until it runs.",
        "resuming", "runs again", (api, id, cancellationToken) => api.Checkpoints.ResumeAsync(id, cancellationToken));

    private static Command Verb(Say say, string name, string line, string doing, string done, Func<SandboxApi, string, CancellationToken, Task<JsonNode>> act)
    {
        var server = new ServerOption();
        var id = SessionCommand.Id();
        var command = new Command(name, line) { id };
        server.AddTo(command);
        command.SetAction(async (parsed, cancellationToken) =>
        {
            using var api = server.Connect(parsed);
            var (session, clock) = (parsed.GetValue(id)!, Stopwatch.StartNew());
            await say.WhileAsync($"{doing} {session}", () => act(api, session, cancellationToken));
            say.Note(string.Create(CultureInfo.InvariantCulture, $"session {session} {done}, after {clock.Elapsed.TotalSeconds:0.0} s"));
            return ExitCodes.Success;
        });
        return command;
    }

    private static Command Take(Say say)
    {
        var server = new ServerOption();
        var id = SessionCommand.Id();
        var name = new Option<string?>("--name") { Description = "Name of your own, unique in the session", HelpName = "NAME" };
        var json = new Option<bool>("--json") { Description = "Print the whole checkpoint for machines" };
        var command = new Command("checkpoint", "Save the state of a running session, which goes on, and print the checkpoint's id.") { id, name, json };
        server.AddTo(command);
        command.SetAction(async (parsed, cancellationToken) =>
        {
            using var api = server.Connect(parsed);
            var session = parsed.GetValue(id)!;
            var made = await say.WhileAsync($"saving {session}", () => api.Checkpoints.CreateAsync(session, parsed.GetValue(name), cancellationToken));
            if (parsed.GetValue(json))
            {
                JsonOutput.Write(made);
                return ExitCodes.Success;
            }

            Console.WriteLine(SandboxApi.Text(made, "id"));
            say.Note($"checkpoint {made["number"]}: {Cells.Size(made["storedBytes"])} stored; the session stood still for {Cells.Milliseconds(made["stopped"])}");
            return ExitCodes.Success;
        });
        return command;
    }

    private static Command List(Say say)
    {
        var server = new ServerOption();
        var id = SessionCommand.Id();
        var json = new Option<bool>("--json") { Description = "For machines" };
        var command = new Command("checkpoints", "List a session's checkpoints, oldest first. Never wakes it.") { id, json };
        server.AddTo(command);
        command.SetAction(async (parsed, cancellationToken) =>
        {
            using var api = server.Connect(parsed);
            var all = await api.Checkpoints.ListAsync(parsed.GetValue(id)!, cancellationToken);
            if (parsed.GetValue(json))
            {
                JsonOutput.Write(new JsonObject { ["checkpoints"] = all.DeepClone() });
                return ExitCodes.Success;
            }

            var table = new Table().Border(TableBorder.Simple).AddColumns("number", "id", "name", "kind", "taken", "stored", "stopped");
            foreach (var checkpoint in all)
            {
                table.AddRow(
                    Cells.Text(checkpoint!, "number"), Cells.Text(checkpoint!, "id"), Cells.Text(checkpoint!, "name"), Cells.Text(checkpoint!, "kind"), Cells.Age(checkpoint!["createdAt"]),
                    Cells.Size(checkpoint["storedBytes"]), Cells.Milliseconds(checkpoint["stopped"]));
            }

            say.Output.Write(table);
            return ExitCodes.Success;
        });
        return command;
    }

    private static Command Delete(Say say)
    {
        var server = new ServerOption();
        var id = SessionCommand.Id();
        var checkpoint = Checkpoint();
        var command = new Command("rm-checkpoint", "Delete a checkpoint.") { id, checkpoint };
        server.AddTo(command);
        command.SetAction(async (parsed, cancellationToken) =>
        {
            using var api = server.Connect(parsed);
            var session = parsed.GetValue(id)!;
            var found = await api.Checkpoints.FindAsync(session, parsed.GetValue(checkpoint)!, cancellationToken);
            await api.Checkpoints.DeleteAsync(session, found, cancellationToken);
            say.Note($"checkpoint {found} is deleted");
            return ExitCodes.Success;
        });
        return command;
    }

    private static Command Rollback(Say say)
    {
        var server = new ServerOption();
        var id = SessionCommand.Id();
        var checkpoint = Checkpoint();
        var command = new Command("rollback", "Put a session back to a checkpoint: files, variables and processes are as they were then. What came after is lost, except outputs and checkpoints.") { id, checkpoint };
        server.AddTo(command);
        command.SetAction(async (parsed, cancellationToken) =>
        {
            using var api = server.Connect(parsed);
            var (session, clock) = (parsed.GetValue(id)!, Stopwatch.StartNew());
            var found = await api.Checkpoints.FindAsync(session, parsed.GetValue(checkpoint)!, cancellationToken);
            await say.WhileAsync($"putting {session} back", () => api.Checkpoints.RollbackAsync(session, found, cancellationToken));
            say.Note(string.Create(CultureInfo.InvariantCulture, $"session {session} is back at checkpoint {found}, after {clock.Elapsed.TotalSeconds:0.0} s"));
            return ExitCodes.Success;
        });
        return command;
    }

    private static Command Fork(Say say)
    {
        var server = new ServerOption();
        var id = SessionCommand.Id();
        var count = new Option<int>("--count") { Description = "How many, 1 to 100", HelpName = "N", DefaultValueFactory = _ => 1 };
        var json = new Option<bool>("--json") { Description = "Print the whole sessions for machines" };
        var command = new Command("fork", "Make independent copies of a running session, wait until they run, and print their ids. The session itself goes on.") { id, count, json };
        server.AddTo(command);
        command.SetAction(async (parsed, cancellationToken) =>
        {
            var (session, copies) = (parsed.GetValue(id)!, parsed.GetValue(count));
            if (copies is < 1 or > 100)
            {
                throw new UserException($"--count '{copies}': write a number from 1 to 100", ExitCodes.Usage);
            }

            using var api = server.Connect(parsed);
            var forks = await say.WhileAsync($"forking {session}", () => api.Checkpoints.ForkAsync(session, copies, cancellationToken));
            if (parsed.GetValue(json))
            {
                JsonOutput.Write(new JsonObject { ["sessions"] = new JsonArray([.. forks.Select(f => f.DeepClone())]) });
            }
            else
            {
                Array.ForEach(forks, f => Console.WriteLine(SandboxApi.Text(f, "id")));
            }

            var failed = forks.Where(f => SandboxApi.Text(f, "state") != "running").ToList();
            failed.ForEach(f => say.Fail($"{SandboxApi.Text(f, "id")} is {SandboxApi.Text(f, "state")}: {f["cause"]}"));
            return failed.Count == 0 ? ExitCodes.Success : ExitCodes.SandboxFailed;
        });
        return command;
    }

    private static Argument<string> Checkpoint() => new("checkpoint") { Description = "Id, name or number of a checkpoint" };
}
