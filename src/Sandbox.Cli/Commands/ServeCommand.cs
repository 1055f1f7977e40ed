using System.CommandLine;
using System.Diagnostics;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using Sandbox.Cli.Terminal;
using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Images;
using Sandbox.Server;
using Spectre.Console;

namespace Sandbox.Cli.Commands;

/// <summary>Keeps a server up until it is told to stop.</summary>
internal static class ServeCommand
{
    public static Command Create(Say say)
    {
        var config = new Option<string?>("--config") { Description = "Configuration file, a JSON object of settings", HelpName = "FILE" };
        var dev = new Option<bool>("--dev") { Description = "For one user on this machine: no API key; loopback addresses only" };
        var verbose = new Option<bool>("--verbose", "-v") { Description = "Log what Orleans and ASP.NET Core do as well" };
        var settings = new (Option<string?> Option, string Setting)[]
        {
            (new("--urls", "--url") { Description = "Addresses to listen on, separated by ';'. Default http://127.0.0.1:8080", HelpName = "URLS" }, "urls"),
            (new("--data") { Description = "Data directory; one server at a time may use it", HelpName = "DIR" }, "dataDirectory"),
            (new("--images") { Description = "Where guest images are", HelpName = "DIR" }, "imageRoot"),
            (new("--role") { Description = "all (default), silo (a host without HTTP API) or gateway (HTTP API without a host)", HelpName = "ROLE" }, "role"),
            (new("--redis") { Description = "Redis for cluster membership", HelpName = "CONNECTION" }, "redis"),
            (new("--postgres") { Description = "PostgreSQL for state and reminders; better given in the environment", HelpName = "CONNECTION" }, "postgres"),
            (new("--cluster-id") { Description = "Silos of one cluster share it", HelpName = "ID" }, "clusterId"),
            (new("--host-id") { Description = "Host id; default: made once and kept in the data directory", HelpName = "ID" }, "hostId"),
            (new("--advertised-address") { Description = "IP address that other silos reach this one at", HelpName = "IP" }, "advertisedAddress"),
            (new("--silo-port") { Description = "Port among silos; default: a free one", HelpName = "PORT" }, "siloPort"),
            (new("--orleans-gateway-port") { Description = "Port for Orleans clients; default: a free one", HelpName = "PORT" }, "orleansGatewayPort"),
            (new("--accelerator") { Description = "auto (default), kvm or tcg", HelpName = "NAME" }, "accelerator"),
            (new("--max-memory") { Description = "Memory of all microVMs together, in MiB", HelpName = "MIB" }, "memoryMiB"),
            (new("--warm-pool") { Description = "Most warm microVMs kept ready for each template; 0: none", HelpName = "N" }, "warmPool"),
            (new("--snapshots") { Description = "Directory of the snapshot store; in a cluster on a file system that all hosts share. For S3 see docs/storage.md", HelpName = "DIR" }, "snapshotDirectory"),
            (new("--snapshot-key") { Description = "File of the key that snapshots are encrypted under; in a cluster the same on all hosts", HelpName = "FILE" }, "snapshotKeyFile"),
            (new("--max-microvms") { Description = "Most microVMs at once", HelpName = "N" }, "maxMicroVms"),
            (new("--bootstrap-key") { Description = "Write a first API key of the tenant 'default' to this file (mode 0600) if there is none yet", HelpName = "FILE" }, "bootstrapKeyFile"),
        };
        var command = new DetailedCommand("serve", "Run the server: the HTTP API, the actors and the microVMs in one process, or parts of that in a cluster.", """
              sandbox serve --dev                                   one user, this machine, no key
              sandbox serve --bootstrap-key key.txt                 with API keys; the first one is written to key.txt
              sandbox serve --config /etc/sandbox/server.json
              SANDBOX_POSTGRES='Host=db;...' sandbox serve --redis cache:6379 --advertised-address 10.0.0.5 \
                --snapshots /mnt/shared/snapshots --snapshot-key /etc/sandbox/snapshot.key

            Every setting can be in the configuration file (dataDirectory) or the environment (SANDBOX_DATA_DIRECTORY); the command line wins.
            SIGTERM or Ctrl-C stops it and ends its microVMs; sessions and their files are there again at the next start.
            """)
        { config, dev, verbose };
        foreach (var (option, _) in settings)
        {
            command.Options.Add(option);
        }

        command.SetAction(async (parsed, cancellationToken) =>
        {
            var flags = settings.Where(s => parsed.GetValue(s.Option) is not null).ToDictionary(s => s.Setting, s => parsed.GetValue(s.Option)!);
            if (parsed.GetValue(dev))
            {
                flags["development"] = "true";
            }

            var options = ServerSettings.Read(parsed.GetValue(config), Environment.GetEnvironmentVariables(), flags);
            return await ServeAsync(options, parsed.GetValue(verbose), say, cancellationToken);
        });
        return command;
    }

    private static async Task<int> ServeAsync(ServerOptions options, bool verbose, Say say, CancellationToken cancellationToken)
    {
        var clock = Stopwatch.StartNew();
        await using var server = await SandboxServer.StartAsync(options, verbose ? l => l.SetMinimumLevel(LogLevel.Information) : null, cancellationToken);
        var address = string.Join(", ", server.Addresses);
        say.Error.MarkupLineInterpolated($"[bold]Sandbox[/] is up at [bold]{address}[/] ({clock.Elapsed.TotalSeconds:0.0} s). Stop it with Ctrl-C.");
        Line(say, "data", options.Role == ServerRole.Gateway ? "none (gateway)" : options.DataDirectory);
        Line(say, "state", options.Postgres.Length > 0 ? $"PostgreSQL; members in Redis; cluster {options.ClusterId}" : options.Role == ServerRole.Gateway ? $"in cluster {options.ClusterId}" : "SQLite in the data directory; one process");
        Line(say, "access", options.Gateway.Development ? "development: no key, loopback only" : "API keys (header X-API-Key); the first one: --bootstrap-key FILE");
        if (options.Role != ServerRole.Gateway)
        {
            var templates = new ImageStore(options.ImageRoot).Templates;
            Line(say, "templates", templates.Count > 0 ? string.Join(", ", templates) : $"none in {options.ImageRoot}; build one with: sandbox image build");
            _ = AnnounceBackendsAsync(server, say, cancellationToken);
        }

        await server.WaitForShutdownAsync();
        say.Note("stopped");
        return ExitCodes.Success;
    }

    /// <summary>The verdict on KVM comes from booting a guest under it, so it may take a while the first time.</summary>
    private static async Task AnnounceBackendsAsync(SandboxServer server, Say say, CancellationToken cancellationToken)
    {
        foreach (var backend in server.Services.GetServices<IIsolationBackend>())
        {
            var verdict = await backend.ProbeAsync(cancellationToken);
            Line(say, backend.Name, verdict.Usable ? $"{verdict.Accelerator.ToUpperInvariant()}, {verdict.Version}: {verdict.Reason}" : $"not usable: {verdict.Reason}");
            foreach (var warning in verdict.Warnings)
            {
                say.Error.MarkupLineInterpolated($"  [yellow]warning[/]    {warning}");
            }
        }
    }

    private static void Line(Say say, string name, string text) => say.Error.MarkupLineInterpolated($"  [grey]{name,-10}[/] {text}");
}
