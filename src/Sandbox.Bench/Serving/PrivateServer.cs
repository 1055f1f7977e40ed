using System.Collections;
using System.Globalization;
using System.Security.Cryptography;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Options;
using Sandbox.Abstractions;
using Sandbox.Bench.Benches;
using Sandbox.Server;

namespace Sandbox.Bench.Serving;

/// <summary>A server in this process, with data of its own that goes with it: real HTTP, real actors, real machines, and nothing of another run.</summary>
internal sealed class PrivateServer : IAsyncDisposable
{
    private static readonly TimeSpan Patience = TimeSpan.FromMinutes(4);
    private readonly string _directory;

    private PrivateServer(SandboxServer server, string directory)
    {
        (Server, _directory) = (server, directory);
        HostId = server.Services.GetRequiredService<IOptions<Sandbox.Grains.HostOptions>>().Value.HostId;
        Http = new SandboxHttp(new Uri(server.Addresses.First()));
    }

    /// <summary>The server.</summary>
    public SandboxServer Server { get; }

    /// <summary>Its HTTP API.</summary>
    public SandboxHttp Http { get; }

    /// <summary>Its host.</summary>
    public string HostId { get; }

    /// <summary>Its actors, as a caller inside the process reaches them.</summary>
    public IClusterClient Cluster => Server.Services.GetRequiredService<IClusterClient>();

    /// <summary>Starts it and waits until it can serve.</summary>
    /// <param name="context">The run.</param>
    /// <param name="settings">Settings by the names that the configuration file uses, on top of the bench's own.</param>
    /// <param name="services">Adds services, for measuring.</param>
    /// <param name="cancellationToken">Gives up.</param>
    /// <exception cref="BenchException">The server does not know a setting, or does not become ready.</exception>
    public static async Task<PrivateServer> StartAsync(BenchContext context, IReadOnlyDictionary<string, string> settings, Action<IServiceCollection>? services, CancellationToken cancellationToken)
    {
        if (settings.Keys.FirstOrDefault(s => !ServerSettings.Names.Contains(s, StringComparer.OrdinalIgnoreCase)) is { } unknown)
        {
            throw new BenchException($"this server has no setting '{unknown}', which the bench needs");
        }

        var directory = Directory.CreateTempSubdirectory("sandbox-bench-").FullName;
        var all = new Dictionary<string, string>(StringComparer.OrdinalIgnoreCase)
        {
            ["dataDirectory"] = directory,
            ["imageRoot"] = context.ImageRoot,
            ["accelerator"] = context.Accelerator,
            ["backends"] = "qemu",
            ["urls"] = "http://127.0.0.1:0",
            ["development"] = "true",
            ["maxMicroVms"] = "64",
        };
        if (settings.ContainsKey("nullBackend"))
        {
            // It writes a template of its own, which other backends cannot use: not among the images of this machine.
            all["imageRoot"] = Path.Combine(directory, "images");
        }

        if (settings.ContainsKey("redis"))
        {
            // A cluster is told where its hosts share snapshots and under which key, be it a cluster of one.
            all["snapshotDirectory"] = Path.Combine(directory, "snapshots");
            all["snapshotKeyFile"] = Path.Combine(directory, "snapshot.key");
            await File.WriteAllBytesAsync(all["snapshotKeyFile"], RandomNumberGenerator.GetBytes(32), cancellationToken);
        }

        all["drainTimeoutSeconds"] = "0";
        foreach (var (name, value) in settings)
        {
            all[name] = value;
        }

        // Nothing of the environment: two runs on one machine measure the same.
        var options = ServerSettings.Read(null, new Hashtable(), all) with { HandleSignals = false };
        PrivateServer? made = null;
        try
        {
            made = new PrivateServer(await SandboxServer.StartAsync(options, logging => Configure(logging, services), cancellationToken), directory);
            await made.WaitUntilReadyAsync(cancellationToken);
            return made;
        }
        catch
        {
            await (made?.DisposeAsync() ?? ValueTask.CompletedTask);
            Remove(directory);
            throw;
        }
    }

    /// <summary>Waits until the warm pool has as many machines as it wants, so that none is being made while something is measured.</summary>
    public async Task WaitForPoolAsync(CancellationToken cancellationToken)
    {
        TenantContext.Set(TenantContext.Development);
        var pool = Cluster.GetGrain<IWarmPoolGrain>($"{HostId}/{BenchContext.Template}");
        await EventuallyAsync(
            async () => await pool.GetAsync() is { Target: > 0 } report && report.Ready >= report.Target,
            () => "the warm pool does not fill",
            cancellationToken);
    }

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        Http.Dispose();
        await Server.DisposeAsync();
        Remove(_directory);
        new RuntimeDirectory(HostId).RemoveIfEmpty();
    }

    private static void Configure(ILoggingBuilder logging, Action<IServiceCollection>? services)
    {
        logging.Services.Configure<LoggerFilterOptions>(o =>
        {
            o.Rules.Clear();
            o.MinLevel = LogLevel.Error;
        });
        services?.Invoke(logging.Services);
    }

    private async Task WaitUntilReadyAsync(CancellationToken cancellationToken)
    {
        string? reason = null;
        await EventuallyAsync(async () => (reason = await Http.NotReadyReasonAsync(cancellationToken)) is null, () => $"the server does not become ready: {reason}", cancellationToken);
    }

    private static async Task EventuallyAsync(Func<Task<bool>> holds, Func<string> otherwise, CancellationToken cancellationToken)
    {
        var until = Environment.TickCount64 + (long)Patience.TotalMilliseconds;
        while (!await holds())
        {
            if (Environment.TickCount64 > until)
            {
                throw new BenchException(string.Create(CultureInfo.InvariantCulture, $"{otherwise()} (waited {Patience.TotalMinutes:0} minutes)"));
            }

            await Task.Delay(20, cancellationToken);
        }
    }

    private static void Remove(string directory)
    {
        if (Directory.Exists(directory))
        {
            Directory.Delete(directory, recursive: true);
        }
    }
}
