using System.CommandLine;
using System.Net.WebSockets;
using System.Runtime.InteropServices;
using System.Text;
using System.Text.Json.Nodes;
using Sandbox.Cli.Api;
using Sandbox.Cli.Runs;
using Sandbox.Cli.Terminal;

namespace Sandbox.Cli.Commands;

/// <summary>A shell in a session, on this terminal.</summary>
internal static class ShellCommand
{
    private const int MaxMessage = 4 * 1024 * 1024;

    public static Command Create()
    {
        var server = new ServerOption();
        var wake = new WakeOption();
        var id = SessionCommand.Id();
        var user = new Option<string?>("--user") { Description = "User inside the session", HelpName = "NAME" };
        var program = new Argument<string[]>("command") { Description = "Program to run on the terminal; default: bash -l", Arity = ArgumentArity.ZeroOrMore };
        var command = new Command("shell", "Open a shell in a session: keys, colours and window size as at home. It ends when the shell does.") { id, program, user };
        wake.AddTo(command);
        server.AddTo(command);
        command.SetAction(async (parsed, cancellationToken) =>
        {
            if (Console.IsInputRedirected || Console.IsOutputRedirected)
            {
                throw new UserException("a shell needs a terminal; for scripts there is: sandbox session exec", ExitCodes.Usage);
            }

            using var api = server.Connect(parsed, wake.MayWake(parsed));
            var session = parsed.GetValue(id)!;
            var argv = parsed.GetValue(program) is { Length: > 0 } given ? given : ["bash", "-l"];
            var body = new JsonObject
            {
                ["argv"] = new JsonArray([.. argv.Select(a => (JsonNode)a)]),
                ["pty"] = new JsonObject { ["columns"] = Columns, ["rows"] = Rows },
                ["env"] = new JsonObject { ["TERM"] = Environment.GetEnvironmentVariable("TERM") ?? "xterm-256color" },
            };
            if (parsed.GetValue(user) is { } name)
            {
                body["user"] = name;
            }

            var execution = SandboxApi.Text(await api.StartAsync(session, body, cancellationToken), "id");
            using var socket = await api.ConnectAsync(session, execution, cancellationToken);
            return await ServeAsync(socket, cancellationToken);
        });
        return command;
    }

    private static int Columns => Math.Clamp(Console.WindowWidth, 1, 1000);

    private static int Rows => Math.Clamp(Console.WindowHeight, 1, 1000);

    private static async Task<int> ServeAsync(ClientWebSocket socket, CancellationToken cancellationToken)
    {
        using var turn = new SemaphoreSlim(1, 1);
        using var raw = RawTerminal.Enter();
        using var resized = PosixSignalRegistration.Create(
            PosixSignal.SIGWINCH, context => _ = SendAsync(socket, turn, new JsonObject { ["type"] = "resize", ["columns"] = Columns, ["rows"] = Rows }));
        var keys = new Thread(() => ReadKeys(socket, turn)) { IsBackground = true, Name = "keys" };
        keys.Start();

        await using var output = Console.OpenStandardOutput();
        await foreach (var message in ReceiveAsync(socket, cancellationToken))
        {
            switch (message["type"]?.ToString())
            {
                case "pty" or "stdout" or "stderr":
                    await output.WriteAsync(new OutputItem(0, "pty", message).Bytes, cancellationToken);
                    await output.FlushAsync(cancellationToken);
                    break;
                case "exit":
                    return Outcome.Of(message).ExitCode;
            }
        }

        throw new UserException("the connection was lost; the shell may still run", ExitCodes.SandboxFailed);
    }

    /// <summary>Reading a terminal cannot be cancelled, so it has a thread of its own that ends with the process.</summary>
    private static void ReadKeys(ClientWebSocket socket, SemaphoreSlim turn)
    {
        using var input = RawTerminal.OpenInput();
        var buffer = new byte[4096];
        for (int n; (n = input.Read(buffer)) > 0;)
        {
            SendAsync(socket, turn, new JsonObject { ["type"] = "stdin", ["base64"] = Convert.ToBase64String(buffer.AsSpan(0, n)) }).GetAwaiter().GetResult();
        }
    }

    private static async Task SendAsync(ClientWebSocket socket, SemaphoreSlim turn, JsonObject message)
    {
        await turn.WaitAsync();
        try
        {
            if (socket.State == WebSocketState.Open)
            {
                await socket.SendAsync(Encoding.UTF8.GetBytes(message.ToJsonString()), WebSocketMessageType.Text, true, CancellationToken.None);
            }
        }
        catch (WebSocketException)
        {
            // The receiving side notices, and says so.
        }
        finally
        {
            turn.Release();
        }
    }

    private static async IAsyncEnumerable<JsonNode> ReceiveAsync(ClientWebSocket socket, [System.Runtime.CompilerServices.EnumeratorCancellation] CancellationToken cancellationToken)
    {
        var buffer = new byte[64 * 1024];
        using var message = new MemoryStream();
        while (true)
        {
            ValueWebSocketReceiveResult part;
            try
            {
                part = await socket.ReceiveAsync(buffer.AsMemory(), cancellationToken);
            }
            catch (WebSocketException)
            {
                yield break;
            }

            if (part.MessageType == WebSocketMessageType.Close)
            {
                yield break;
            }

            message.Write(buffer, 0, part.Count);
            if (message.Length > MaxMessage)
            {
                throw new UserException("the server sent a message beyond all measure", ExitCodes.SandboxFailed);
            }

            if (part.EndOfMessage)
            {
                yield return JsonNode.Parse(message.ToArray())!;
                message.SetLength(0);
            }
        }
    }
}
