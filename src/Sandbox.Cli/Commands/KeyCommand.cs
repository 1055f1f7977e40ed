using System.CommandLine;
using System.Text.Json.Nodes;
using Sandbox.Cli.Api;
using Sandbox.Cli.Terminal;

namespace Sandbox.Cli.Commands;

/// <summary>A tenant's own API keys.</summary>
internal static class KeyCommand
{
    public static Command Create(Say say) => new DetailedCommand("key", "Make, list and revoke API keys of your tenant. The first key comes from `sandbox serve --bootstrap-key FILE`.", """
          SANDBOX_API_KEY=$(cat key.txt) sandbox key create ci
        """)
    {
        Make(),
        NamedThings.List(say, "ls", "List keys, without their texts.", "/v1/keys", "keys", ("id", k => Cells.Text(k, "id")), ("name", k => Cells.Text(k, "name")), ("created", k => Cells.Text(k, "createdAt"))),
        NamedThings.Delete(
            say, "revoke", "Revoke a key. It stops working within half a minute.", new Argument<string>("id") { Description = "Id of the key, as `sandbox key ls` shows it" }, "/v1/keys", id => $"key {id} is revoked"),
    };

    private static Command Make()
    {
        var server = new ServerOption();
        var name = new Argument<string>("name") { Description = "What it is for" };
        var json = new Option<bool>("--json") { Description = "For machines" };
        var e2b = new Option<bool>("--e2b") { Description = "Print it as E2B's SDKs want E2B_API_KEY: the same key, spelt e2b_ and hexadecimal digits" };
        var command = new Command("create", "Make a key. Its text is printed this once and kept nowhere.") { name, json, e2b };
        server.AddTo(command);
        command.SetAction(async (parsed, cancellationToken) =>
        {
            using var api = server.Connect(parsed);
            var made = await api.SendAsync(HttpMethod.Post, "/v1/keys", new JsonObject { ["name"] = parsed.GetValue(name) }, cancellationToken);
            if (parsed.GetValue(json))
            {
                JsonOutput.Write(made);
            }
            else
            {
                Console.WriteLine(SandboxApi.Text(made, parsed.GetValue(e2b) ? "e2bKey" : "key"));
            }

            return ExitCodes.Success;
        });
        return command;
    }
}
