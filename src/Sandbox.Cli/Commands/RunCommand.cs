using System.CommandLine;
using System.Diagnostics;
using System.Text.Json.Nodes;
using Sandbox.Cli.Api;
using Sandbox.Cli.Runs;
using Sandbox.Cli.Terminal;
using Sandbox.Server;

namespace Sandbox.Cli.Commands;

/// <summary>The main job: run a file or code in a session of its own and be the code, to whoever called us.</summary>
internal static class RunCommand
{
    private const string Directory = "work";

    public static Command Create(Say say)
    {
        var code = new Option<string?>("--code", "-c") { Description = "Code to run instead of a file", HelpName = "CODE" };
        var with = new Option<FileInfo[]>("--with") { Description = "A file to put beside it; repeatable", HelpName = "PATH" };
        var artifacts = new Option<string?>("--artifacts") { Description = "Bring the files that the run created or changed back into this directory", HelpName = "DIR" };
        var language = new Option<string?>("--language", "-l") { Description = $"{Language.Names}; default: by the file's name, python for code", HelpName = "NAME" };
        var timeout = new Option<string?>("--timeout") { Description = "End it after so long: 90, 90s, 5m, 2h", HelpName = "TIME" };
        var keep = new Option<bool>("--keep") { Description = "Keep the session; its id is said at the end" };
        var session = new Option<string?>("--session") { Description = "Use this session and keep it", HelpName = "ID" };
        var interactive = new Option<bool>("--interactive", "-i") { Description = "Send standard input along" };
        var verbose = new Option<bool>("--verbose", "-v") { Description = "Say what is done and how long it took" };
        var data = new Option<string?>("--data") { Description = "Data directory of the server that is started when none answers", HelpName = "DIR" };
        var rest = new Argument<string[]>("FILE [ARGS]") { Arity = ArgumentArity.ZeroOrMore, Description = "The file and its arguments; with -c all of them are arguments. our own options come before it" };
        var server = new ServerOption();
        var sizes = new SizeOptions();
        var egress = new EgressOptions();
        var command = new DetailedCommand("run", "Run a file or code in a microVM session, with its output live and its exit code ours.", $"""
              sandbox run --with sales.csv --artifacts out analysis.py sales.csv
              sandbox run -c 'import sys; print(sys.version)'
              sandbox run --language bash -c 'echo $0; nproc'
              sandbox run --timeout 30s --memory 1G job.js --fast
              sandbox run --preset pip --language bash -c 'pip install --break-system-packages rich'

            What comes after the file belongs to the code, also if it looks like an option.
            It talks to the server named by --server or $SANDBOX_URL. Without either it uses the one at {ServerOption.Default} if one answers there,
            and else starts one in this process for the length of the run. Ctrl-C interrupts the code, a second one kills it.

            {ExitCodes.Help}
            """)
        {
            rest, code, with, artifacts, language, timeout, keep, session, interactive, verbose, data,
        };
        sizes.AddTo(command);
        egress.AddTo(command);
        server.AddTo(command);
        command.SetAction(async (parsed, cancellationToken) =>
        {
            var words = parsed.GetValue(rest) ?? [];
            var plan = Plan(parsed.GetValue(code), words, parsed.GetValue(language), parsed.GetValue(with) ?? []);
            var policy = egress.Policy(parsed);
            var limit = parsed.GetValue(timeout) is { } text ? Sizes.ParseDuration(text) ?? throw new UserException($"--timeout '{text}': write for example 90s or 5m", ExitCodes.Usage) : (TimeSpan?)null;
            var kept = parsed.GetValue(keep) || parsed.GetValue(session) is not null;
            await using var place = await PlaceAsync(parsed, server, parsed.GetValue(data), sizes.Backend(parsed), kept, cancellationToken);
            using var api = place.Api;
            var clock = Stopwatch.StartNew();
            var id = parsed.GetValue(session) ?? await CreateAsync(api, sizes.ToBody(parsed), policy, parsed.GetValue(verbose) ? say : null, cancellationToken);
            try
            {
                return await RunAsync(api, id, plan, limit, parsed.GetValue(artifacts), parsed.GetValue(interactive), parsed.GetValue(verbose), say, clock, cancellationToken);
            }
            finally
            {
                if (kept)
                {
                    say.Note($"session {id} is kept; remove it with: sandbox session rm {id}");
                }
                else
                {
                    await RemoveAsync(api, id, say);
                }
            }
        });
        return command;
    }

    /// <summary>What to run, and which files it needs; checked before anything is started.</summary>
    internal static RunPlan Plan(string? code, string[] words, string? language, FileInfo[] with)
    {
        foreach (var extra in with)
        {
            if (!extra.Exists)
            {
                throw new UserException($"--with {extra}: there is no such file", ExitCodes.Usage);
            }
        }

        if (code is not null)
        {
            return new RunPlan(Language.Choose(language, null).ForCode(code, words), with);
        }

        if (words is not [var file, ..])
        {
            throw new UserException("nothing to run: name a file, or give code with -c", ExitCodes.Usage);
        }

        var main = new FileInfo(file);
        return main.Exists
            ? new RunPlan(Language.Choose(language, main.Name).ForFile(main.Name, words[1..]), [main, .. with])
            : throw new UserException($"{file}: there is no such file", ExitCodes.Usage);
    }

    private static async Task<Place> PlaceAsync(ParseResult parsed, ServerOption server, string? data, string? backend, bool kept, CancellationToken cancellationToken)
    {
        if (server.Named(parsed) is { } named)
        {
            return new Place(new SandboxApi(named, server.Key(parsed)), null);
        }

        if (data is null && await SandboxApi.AnswersAsync(ServerOption.Default, TimeSpan.FromSeconds(2), cancellationToken))
        {
            return new Place(new SandboxApi(ServerOption.Default, server.Key(parsed)), null);
        }

        var flags = data is null ? [] : new Dictionary<string, string> { ["dataDirectory"] = data };
        if (backend is not null || Environment.GetEnvironmentVariable("SANDBOX_BACKENDS") is null)
        {
            // Trying out others would only take time from the one that is used.
            flags["backends"] = backend ?? "qemu";
        }

        if (!kept)
        {
            // Its session ends with it.
            flags["drainTimeoutSeconds"] = "0";
        }

        var own = await PrivateServer.StartAsync(ServerSettings.Read(null, Environment.GetEnvironmentVariables(), flags), !kept, cancellationToken);
        return new Place(new SandboxApi(own.Url, null), own);
    }

    private static async Task<string> CreateAsync(SandboxApi api, JsonObject body, JsonObject? policy, Say? verbose, CancellationToken cancellationToken)
    {
        body["metadata"] = new JsonObject { ["createdBy"] = "sandbox run" };
        if (policy is not null)
        {
            body["egress"] = policy;
        }

        var session = await api.CreateSessionAsync(body, cancellationToken);
        verbose?.Note($"session {SandboxApi.Text(session, "id")}: {session["backend"]} ({session["accelerator"]}), {session["vcpus"]} vCPU, {session["memoryMiB"]} MiB, started by {session["startMethod"]} in {session["startSeconds"]} s");
        foreach (var warning in verbose is null ? [] : session["warnings"]?.AsArray() ?? [])
        {
            verbose!.Note(warning!.ToString());
        }

        return SandboxApi.Text(session, "id");
    }

    private static async Task<int> RunAsync(
        SandboxApi api, string id, RunPlan plan, TimeSpan? limit, string? artifacts, bool interactive, bool verbose, Say say, Stopwatch clock, CancellationToken cancellationToken)
    {
        var directory = (await api.Files.MakeDirectoryAsync(id, Directory, cancellationToken)).Path;
        foreach (var file in plan.Files)
        {
            await using var content = file.OpenRead();
            await api.Files.UploadAsync(id, $"{directory}/{file.Name}", content, (int)file.UnixFileMode & 0x1FF, null, cancellationToken);
        }

        var collector = new Artifacts(api, id, directory, say);
        if (artifacts is not null)
        {
            await collector.RememberAsync(cancellationToken);
        }

        if (verbose)
        {
            say.Note($"ready after {clock.Elapsed.TotalSeconds:0.00} s");
        }

        var request = new JsonObject
        {
            ["argv"] = new JsonArray([.. plan.Argv.Select(a => (JsonNode)a)]),
            ["cwd"] = directory,
            ["env"] = new JsonObject { ["PYTHONUNBUFFERED"] = "1" },
        };
        if (limit is { } time)
        {
            request["timeoutSeconds"] = time.TotalSeconds;
        }

        using var live = new LiveExecution(api, id, say);
        var outcome = await live.RunAsync(request, interactive, cancellationToken);
        if (outcome.Explanation is { } explanation)
        {
            say.Note(explanation);
        }

        if (artifacts is not null && outcome.ExitCode != ExitCodes.SandboxFailed)
        {
            await collector.BringBackAsync(artifacts, cancellationToken);
        }

        return outcome.ExitCode;
    }

    private static async Task RemoveAsync(SandboxApi api, string id, Say say)
    {
        try
        {
            await api.DeleteSessionAsync(id, CancellationToken.None);
        }
        catch (Exception e) when (e is ApiException or UserException or HttpRequestException)
        {
            say.Note($"session {id} could not be removed: {e.Message}");
        }
    }

    /// <summary>What runs where.</summary>
    internal sealed record RunPlan(string[] Argv, IReadOnlyList<FileInfo> Files);

    /// <summary>The server that a run uses: one that was there, or one of its own.</summary>
    private sealed record Place(SandboxApi Api, PrivateServer? Own) : IAsyncDisposable
    {
        public ValueTask DisposeAsync() => Own?.DisposeAsync() ?? ValueTask.CompletedTask;
    }
}
