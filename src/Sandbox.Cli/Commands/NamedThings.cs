using System.CommandLine;
using System.Text.Json.Nodes;
using Sandbox.Cli.Api;
using Sandbox.Cli.Terminal;
using Spectre.Console;

namespace Sandbox.Cli.Commands;

/// <summary>Commands that list, and delete, what a tenant has under a name or an id.</summary>
internal static class NamedThings
{
    /// <summary>Lists them as a table, or as the server's answer with <c>--json</c>.</summary>
    /// <param name="say">Output.</param>
    /// <param name="verb">Name of the command.</param>
    /// <param name="description">For people.</param>
    /// <param name="path">Where the server lists them.</param>
    /// <param name="member">The list in its answer.</param>
    /// <param name="columns">Titles, and how a cell is made; as mark-up.</param>
    public static Command List(Say say, string verb, string description, string path, string member, params (string Title, Func<JsonNode, string> Cell)[] columns)
    {
        var server = new ServerOption();
        var json = new Option<bool>("--json") { Description = "For machines" };
        var command = new Command(verb, description) { json };
        server.AddTo(command);
        command.SetAction(async (parsed, cancellationToken) =>
        {
            using var api = server.Connect(parsed);
            var answer = await api.GetAsync(path, cancellationToken);
            if (parsed.GetValue(json))
            {
                JsonOutput.Write(answer);
                return ExitCodes.Success;
            }

            var table = new Table().Border(TableBorder.Simple).AddColumns([.. columns.Select(c => c.Title)]);
            foreach (var thing in answer[member]!.AsArray())
            {
                table.AddRow([.. columns.Select(c => c.Cell(thing!))]);
            }

            say.Output.Write(table);
            return ExitCodes.Success;
        });
        return command;
    }

    /// <summary>Deletes one.</summary>
    /// <param name="say">Output.</param>
    /// <param name="verb">Name of the command.</param>
    /// <param name="description">For people.</param>
    /// <param name="which">What names it.</param>
    /// <param name="path">Where the server has it, before its name.</param>
    /// <param name="done">What is said of it then.</param>
    public static Command Delete(Say say, string verb, string description, Argument<string> which, string path, Func<string, string> done)
    {
        var server = new ServerOption();
        var command = new Command(verb, description) { which };
        server.AddTo(command);
        command.SetAction(async (parsed, cancellationToken) =>
        {
            using var api = server.Connect(parsed);
            await api.SendAsync(HttpMethod.Delete, $"{path}/{SandboxApi.Escape(parsed.GetValue(which)!)}", null, cancellationToken);
            say.Note(done(parsed.GetValue(which)!));
            return ExitCodes.Success;
        });
        return command;
    }
}
