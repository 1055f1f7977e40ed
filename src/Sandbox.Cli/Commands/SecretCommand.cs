using System.CommandLine;
using System.Text.Json.Nodes;
using Sandbox.Cli.Api;
using Sandbox.Cli.Terminal;

namespace Sandbox.Cli.Commands;

/// <summary>A tenant's secrets.</summary>
internal static class SecretCommand
{
    public static Command Create(Say say) => new DetailedCommand("secret", "Store credentials that sessions use without ever having them: a session sees a placeholder, and the value is put into its requests outside of it.", """
          sandbox secret set github-token --host api.github.com <token.txt
          sandbox secret set registry --host registry.example.com --header x-api-key --value-file key.txt
          sandbox session create --allow api.github.com --secret github-token
        """)
    {
        Set(say),
        NamedThings.List(
            say, "ls", "List secrets, without their values.", "/v1/secrets", "secrets", ("name", s => Cells.Text(s, "name")), ("hosts", s => Cells.Texts(s, "hosts")), ("headers", s => Cells.Texts(s, "headers")),
            ("variable", s => Cells.Text(s, "variable")), ("stored", s => Cells.Age(s["updatedAt"]))),
        NamedThings.Delete(
            say, "rm", "Delete a secret. Sessions cannot use it any more within a minute.", new Argument<string>("name") { Description = "Name, as `sandbox secret ls` shows it" }, "/v1/secrets", name => $"secret {name} is deleted"),
    };

    private static Command Set(Say say)
    {
        var server = new ServerOption();
        var name = new Argument<string>("name") { Description = "Lower-case letters, digits and hyphens" };
        var host = new Option<string[]>("--host") { Description = "Host that it may be sent to; repeatable", HelpName = "HOST", Required = true };
        var header = new Option<string[]>("--header") { Description = "Header that it may stand in; default: authorization; repeatable", HelpName = "NAME" };
        var variable = new Option<string?>("--variable") { Description = "Environment variable that holds the placeholder; default: the name in capitals", HelpName = "NAME" };
        var file = new Option<FileInfo?>("--value-file") { Description = "File that holds the value; default: standard input. A final line break is left out", HelpName = "FILE" };
        var command = new Command("set", "Store a secret, or replace one. Its value is read from a file or standard input, never from the command line, where others could see it.") { name, host, header, variable, file };
        server.AddTo(command);
        command.SetAction(async (parsed, cancellationToken) =>
        {
            using var api = server.Connect(parsed);
            if (parsed.GetValue(file) is null && !Console.IsInputRedirected)
            {
                say.Note("type the value, then Enter and Ctrl-D");
            }

            var value = parsed.GetValue(file) is { } from ? await File.ReadAllTextAsync(from.FullName, cancellationToken) : await Console.In.ReadToEndAsync(cancellationToken);
            var body = new JsonObject { ["value"] = value.TrimEnd('\n', '\r'), ["hosts"] = Texts(parsed.GetValue(host)), ["headers"] = Texts(parsed.GetValue(header)) };
            if (parsed.GetValue(variable) is { } text)
            {
                body["variable"] = text;
            }

            var stored = await api.SendAsync(HttpMethod.Put, $"/v1/secrets/{SandboxApi.Escape(parsed.GetValue(name)!)}", body, cancellationToken);
            say.Note($"secret {stored["name"]} is stored; sessions that are given it find its placeholder in ${stored["variable"]}");
            return ExitCodes.Success;
        });
        return command;
    }

    private static JsonArray Texts(string[]? texts) => [.. (texts ?? []).Select(t => (JsonNode)t)];
}
