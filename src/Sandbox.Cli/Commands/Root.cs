using System.CommandLine;
using Sandbox.Cli.Api;
using Sandbox.Cli.Terminal;
using Sandbox.Isolation.Backends;
using Sandbox.Server;
using Sandbox.Storage;
using Sandbox.Templates;

namespace Sandbox.Cli.Commands;

/// <summary>The whole command line, and what becomes of the errors below it.</summary>
internal static class Root
{
    public static RootCommand Create(Say say) => DetailedCommand.Support(new RootCommand("""
        Runs code that nobody has read in microVM sessions.

          sandbox run analysis.py data.csv     run a file, output live, exit code the code's
          sandbox run -c 'print(6 * 7)'        run code
          sandbox serve --dev                  a server for one user on this machine, at http://127.0.0.1:8080
          sandbox doctor                       what this machine can do, and what it lacks
        """)
    {
        RunCommand.Create(say),
        ServeCommand.Create(say),
        SessionCommand.Create(say),
        ImageCommand.Create(say),
        PolicyCommand.Create(say),
        SecretCommand.Create(say),
        KeyCommand.Create(say),
        DatabaseCommand.Create(say),
        DoctorCommand.Create(say),
    });

    /// <summary>Runs a command line.</summary>
    public static async Task<int> InvokeAsync(string[] arguments)
    {
        var say = new Say();
        var root = Create(say);
        var parsed = root.Parse(Passthrough.Mark(root, arguments));
        if (parsed.Errors.Count > 0 && parsed.Action is not System.CommandLine.Invocation.CommandLineAction { ClearsParseErrors: true })
        {
            foreach (var error in parsed.Errors)
            {
                say.Fail(error.Message);
            }

            say.Note($"see: sandbox {string.Join(' ', PathOf(parsed.CommandResult))} --help");
            return ExitCodes.Usage;
        }

        try
        {
            // The commands that run something handle Ctrl-C themselves.
            return await parsed.InvokeAsync(new InvocationConfiguration { EnableDefaultExceptionHandler = false, ProcessTerminationTimeout = null });
        }
        catch (UserException e)
        {
            say.Fail(e.Message);
            return e.ExitCode;
        }
        catch (ApiException e)
        {
            say.Fail(e.Message);
            return ExitCodes.SandboxFailed;
        }
        catch (Exception e) when (e is ServerException or TemplateException or IsolationException or StorageException)
        {
            say.Fail(e.Message);
            return ExitCodes.Failure;
        }
        catch (HttpRequestException e)
        {
            say.Fail($"the connection to the server failed: {e.Message}");
            return ExitCodes.SandboxFailed;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            say.Fail(e.Message);
            return ExitCodes.Failure;
        }
        catch (OperationCanceledException)
        {
            return 130;
        }
    }

    private static IEnumerable<string> PathOf(System.CommandLine.Parsing.CommandResult result)
    {
        var names = new Stack<string>();
        for (System.CommandLine.Parsing.SymbolResult? at = result; at is System.CommandLine.Parsing.CommandResult { Command: not RootCommand } command; at = at.Parent)
        {
            names.Push(command.Command.Name);
        }

        return names;
    }
}
