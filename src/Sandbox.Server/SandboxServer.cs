using System.Net;
using System.Net.Sockets;
using System.Security.Cryptography.X509Certificates;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using Sandbox.Abstractions;
using Sandbox.Client;
using Sandbox.E2b;
using Sandbox.Gateway;
using Sandbox.Gateway.Executions;
using Sandbox.Grains;
using Sandbox.Isolation.Images;
using Sandbox.Storage;
using Sandbox.Storage.Cluster;
using Sandbox.Storage.Embedded;

namespace Sandbox.Server;

/// <summary>The server: silo, gateway or both in one process. Disposing stops it and ends its microVMs.</summary>
public sealed partial class SandboxServer : IAsyncDisposable
{
    private readonly WebApplication _app;
    private readonly DataDirectoryLock? _lock;

    private SandboxServer(WebApplication app, DataDirectoryLock? held, ServerOptions options) => (_app, _lock, Options) = (app, held, options);

    /// <summary>How it runs.</summary>
    public ServerOptions Options { get; }

    /// <summary>Addresses it really listens on.</summary>
    public IReadOnlyCollection<string> Addresses => [.. _app.Urls];

    /// <summary>Services of the application, for diagnosis.</summary>
    public IServiceProvider Services => _app.Services;

    /// <summary>Builds and starts it. It listens when this returns; microVMs can be started once a host has reported (<c>/readyz</c>).</summary>
    /// <param name="options">How it runs.</param>
    /// <param name="logging">Changes logging, which is warnings to the console by default.</param>
    /// <param name="cancellationToken">Ends the start.</param>
    /// <exception cref="ServerException">It cannot start; the message says why and what to do.</exception>
    public static async Task<SandboxServer> StartAsync(ServerOptions options, Action<ILoggingBuilder>? logging, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(options);
        Check(options);
        var held = options.Role == ServerRole.Gateway ? null : DataDirectoryLock.Take(options.DataDirectory);
        WebApplication? app = null;
        try
        {
            if (options.Postgres.Length > 0 && options.Role != ServerRole.Gateway)
            {
                await DatabaseMigrator.CheckAsync(options.Postgres, cancellationToken);
            }

            app = Build(options, logging);
            await app.StartAsync(cancellationToken);
            var server = new SandboxServer(app, held, options);
            await server.BootstrapKeyAsync();
            return server;
        }
        catch (Exception e)
        {
            if (app is not null)
            {
                await app.DisposeAsync();
            }

            held?.Dispose();
            throw e switch
            {
                IOException when e.Message.Contains("address already in use", StringComparison.OrdinalIgnoreCase) =>
                    new ServerException($"The address {string.Join(", ", options.Urls)} is in use. Stop what listens there, or name another with --urls.", e),
                StorageException or InvalidDataException => new ServerException(e.Message, e),
                _ => e,
            };
        }
    }

    /// <summary>Returns when the process was asked to stop (SIGTERM, SIGINT) and has stopped.</summary>
    public Task WaitForShutdownAsync() => _app.WaitForShutdownAsync();

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        await _app.StopAsync();
        await _app.DisposeAsync();
        _lock?.Dispose();
    }

    private static WebApplication Build(ServerOptions options, Action<ILoggingBuilder>? logging)
    {
        var builder = WebApplication.CreateSlimBuilder(new WebApplicationOptions { ApplicationName = "sandbox", ContentRootPath = AppContext.BaseDirectory });
        // What is configured stands in the options; nothing else of the environment steers ASP.NET Core.
        builder.Configuration.Sources.Clear();
        builder.Configuration.AddInMemoryCollection();
        builder.Logging.ClearProviders();
        builder.Logging.AddSimpleConsole(o => (o.SingleLine, o.TimestampFormat) = (true, "HH:mm:ss "));
        builder.Logging.Services.Configure<Microsoft.Extensions.Logging.Console.ConsoleLoggerOptions>(o => o.LogToStandardErrorThreshold = LogLevel.Trace);
        builder.Logging.SetMinimumLevel(LogLevel.Warning);
        builder.Logging.AddFilter("Sandbox", LogLevel.Information);

        // They warn at every start: of a garbage collector that is chosen on purpose, and of a clock that has not ticked yet.
        builder.Logging.AddFilter("Orleans.Runtime.Silo", LogLevel.Error);
        builder.Logging.AddFilter("Orleans.Runtime.Watchdog", LogLevel.Error);
        logging?.Invoke(builder.Logging);
        builder.WebHost.UseKestrelCore().ConfigureKestrel(k =>
        {
            (k.AddServerHeader, k.Limits.MaxRequestBodySize) = (false, options.Gateway.MaxJsonBytes + 1);
            if (options.TlsCertificate.Length > 0)
            {
                k.ConfigureHttpsDefaults(https => https.ServerCertificate = X509Certificate2.CreateFromPemFile(options.TlsCertificate, options.TlsKey));
            }
        }).UseUrls([.. options.Urls]);
        if (options.TlsCertificate.Length > 0)
        {
            builder.WebHost.UseKestrelHttpsConfiguration();
        }

        builder.Services.AddRoutingCore();
        if (!options.HandleSignals)
        {
            builder.Services.AddSingleton<IHostLifetime, NoLifetime>();
        }

        builder.Services.Configure<Microsoft.Extensions.Hosting.HostOptions>(o => o.ShutdownTimeout = TimeSpan.FromSeconds(30));

        if (options.Role == ServerRole.Gateway)
        {
            builder.UseOrleansClient(client => client.UseRedisMembership(options.Redis, options.ClusterId, options.ServiceId).AddSandboxStreams());
        }
        else
        {
            builder.UseOrleans(silo => ConfigureSilo(silo, options));
        }

        builder.Services.AddSingleton<IOutputSource, ClientOutputSource>();
        builder.Services.AddSandboxGateway(options.Gateway with { TokenKey = SnapshotStorage.TokenKey(options) });
        builder.Services.AddE2bFacade(options.E2b);
        var app = builder.Build();
        app.MapSandboxGateway();
        return app;
    }

    private static void ConfigureSilo(ISiloBuilder silo, ServerOptions options)
    {
        var address = IPAddress.Parse(options.AdvertisedAddress);
        var (siloPort, gatewayPort) = (options.SiloPort == 0 ? FreePort() : options.SiloPort, options.OrleansGatewayPort == 0 ? FreePort() : options.OrleansGatewayPort);
        if (options.Redis.Length > 0)
        {
            silo.UseRedisMembership(options.Redis, options.ClusterId, options.ServiceId);
            silo.ConfigureEndpoints(address, siloPort, gatewayPort);
        }
        else
        {
            silo.UseLocalhostClustering(siloPort, gatewayPort, null, options.ServiceId, options.ClusterId);
        }

        if (options.Postgres.Length > 0)
        {
            silo.UsePostgresStorage(options.Postgres);
        }
        else
        {
            silo.UseEmbeddedStorage(options.DataDirectory);
        }

        silo.AddSandboxGrains(
            host =>
            {
                host.HostId = options.HostId;
                host.DataDirectory = options.DataDirectory;
                host.ImageRoot = options.ImageRoot;
                host.MemoryMiB = options.MemoryMiB;
                host.MaxMicroVms = options.MaxMicroVms;
                host.WarmPoolCeiling = options.WarmPool;
                host.DrainTimeout = options.DrainTimeout;
                host.Devices = options.Devices;
                host.ShareGolden = options.Redis.Length > 0;
                host.Egress = options.Egress;
            },
            sessions =>
            {
                sessions.DefaultIdleTimeout = options.DefaultIdleTimeout;
                sessions.DefaultMaxLifetime = options.DefaultMaxLifetime;
            });
        silo.Services.AddSnapshotStore(options);
        silo.Services.AddArtifactStore(options);
        silo.Services.AddTenantSeal(options);
        AddBackends(silo.Services, options);
    }

    private async Task BootstrapKeyAsync()
    {
        if (Options.BootstrapKeyFile.Length == 0)
        {
            return;
        }

        const string Tenant = "default";
        TenantContext.Set(Tenant);
        var tenant = _app.Services.GetRequiredService<IGrainFactory>().GetGrain<ITenantGrain>(Tenant);
        if ((await tenant.ListKeysAsync()).Count == 0)
        {
            var created = await tenant.CreateKeyAsync("bootstrap");
            var options = new FileStreamOptions { Mode = FileMode.Create, Access = FileAccess.Write, UnixCreateMode = UnixFileMode.UserRead | UnixFileMode.UserWrite };
            await using var file = new StreamWriter(Options.BootstrapKeyFile, options);
            await file.WriteLineAsync(created.Key);
        }
    }

    private static void Check(ServerOptions options)
    {
        if (options.Redis.Length == 0 && (options.Role == ServerRole.Gateway || options.Postgres.Length > 0))
        {
            throw new ServerException("A gateway without a silo, or state in PostgreSQL, needs a cluster: name its Redis with --redis.");
        }

        if (options.Redis.Length > 0 && options.Postgres.Length == 0 && options.Role != ServerRole.Gateway)
        {
            throw new ServerException("A cluster keeps its state in PostgreSQL: name it with --postgres.");
        }

        SnapshotStorage.Check(options);
        if (options.NullBackend && options.ImageRoot == ImageStore.DefaultRoot)
        {
            throw new ServerException("The null backend has an image that nothing else can start. Name an image root of its own with --images.");
        }

        foreach (var url in options.Urls)
        {
            if (!Uri.TryCreate(url, UriKind.Absolute, out var uri) || uri.Scheme is not ("http" or "https"))
            {
                throw new ServerException($"'{url}' is no address to listen on; write for example http://127.0.0.1:8080.");
            }

            if (uri.Scheme == "https" && (!File.Exists(options.TlsCertificate) || !File.Exists(options.TlsKey)))
            {
                throw new ServerException($"{url} needs a certificate: name files with tlsCertificate and tlsKey (SANDBOX_TLS_CERTIFICATE, SANDBOX_TLS_KEY), in PEM.");
            }

            if (options.Gateway.Development && !(uri.Host == "localhost" || (IPAddress.TryParse(uri.Host.Trim('[', ']'), out var address) && IPAddress.IsLoopback(address))))
            {
                throw new ServerException($"Development mode asks nobody for a key, so it listens on loopback addresses only; {url} is none. Leave out --dev, or listen on 127.0.0.1.");
            }
        }

        if (!IPAddress.TryParse(options.AdvertisedAddress, out _))
        {
            throw new ServerException($"'{options.AdvertisedAddress}' is no IP address for other silos.");
        }
    }

    private static int FreePort()
    {
        using var listener = new TcpListener(IPAddress.Loopback, 0);
        listener.Start();
        return ((IPEndPoint)listener.LocalEndpoint).Port;
    }

    /// <summary>Leaves the process's signals alone.</summary>
    private sealed class NoLifetime : IHostLifetime
    {
        public Task WaitForStartAsync(CancellationToken cancellationToken) => Task.CompletedTask;

        public Task StopAsync(CancellationToken cancellationToken) => Task.CompletedTask;
    }
}
