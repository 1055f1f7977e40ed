using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using Sandbox.Cli.Api;
using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Images;
using Sandbox.Server;

namespace Sandbox.Cli.Runs;

/// <summary>A server in this process for the length of one run, on a loopback port that only the kernel chose.</summary>
internal sealed class PrivateServer : IAsyncDisposable
{
    private readonly SandboxServer _server;
    private readonly string? _temporary;

    private PrivateServer(SandboxServer server, string? temporary) => (_server, _temporary) = (server, temporary);

    /// <summary>Where it listens.</summary>
    public Uri Url => new(_server.Addresses.First());

    /// <summary>Starts it and waits until it can serve.</summary>
    /// <param name="options">How it runs; the address is replaced.</param>
    /// <param name="mayUseTemporaryData">Whether a data directory of its own will do where the usual one is in use by another process.</param>
    /// <param name="cancellationToken">Gives up.</param>
    public static async Task<PrivateServer> StartAsync(ServerOptions options, bool mayUseTemporaryData, CancellationToken cancellationToken)
    {
        if (new ImageStore(options.ImageRoot).Templates.Count == 0)
        {
            throw new UserException($"there is no guest image in {options.ImageRoot}; build one with: sandbox image build", ExitCodes.SandboxFailed);
        }

        options = options with { Role = ServerRole.All, Urls = ["http://127.0.0.1:0"], Gateway = options.Gateway with { Development = true }, HandleSignals = false, BootstrapKeyFile = "" };
        string? temporary = null;
        SandboxServer server;
        try
        {
            server = await SandboxServer.StartAsync(options, Quiet, cancellationToken);
        }
        catch (DataDirectoryInUseException) when (mayUseTemporaryData)
        {
            temporary = Directory.CreateTempSubdirectory("sandbox-run-").FullName;

            // A host of a name that nobody will have again could never take back the devices that it had when it died.
            server = await SandboxServer.StartAsync(options with { DataDirectory = temporary, HostId = "", Devices = options.Devices with { Enabled = false } }, Quiet, cancellationToken);
        }

        var made = new PrivateServer(server, temporary);
        try
        {
            await made.WaitUntilReadyAsync(cancellationToken);
            return made;
        }
        catch
        {
            await made.DisposeAsync();
            throw;
        }
    }

    public async ValueTask DisposeAsync()
    {
        await _server.DisposeAsync();
        if (_temporary is not null)
        {
            Directory.Delete(_temporary, recursive: true);
        }
    }

    private static void Quiet(ILoggingBuilder logging) => logging.Services.Configure<LoggerFilterOptions>(o =>
    {
        o.Rules.Clear();
        o.MinLevel = LogLevel.Error;
    });

    private async Task WaitUntilReadyAsync(CancellationToken cancellationToken)
    {
        using var api = new SandboxApi(Url, null);
        using var patience = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        patience.CancelAfter(TimeSpan.FromMinutes(2));
        string? reason = "";
        try
        {
            var verdicts = await Task.WhenAll(_server.Services.GetServices<IIsolationBackend>().Select(b => b.ProbeAsync(patience.Token)));
            if (!verdicts.Any(v => v.Usable))
            {
                throw new UserException($"sessions cannot run here: {string.Join("; ", verdicts.Select(v => v.Reason))}. See: sandbox doctor", ExitCodes.SandboxFailed);
            }

            while ((reason = await api.NotReadyReasonAsync(patience.Token)) is not null)
            {
                await Task.Delay(50, patience.Token);
            }
        }
        catch (OperationCanceledException) when (!cancellationToken.IsCancellationRequested)
        {
            throw new UserException($"the server did not become ready: {reason}. See: sandbox doctor", ExitCodes.SandboxFailed);
        }
    }
}
