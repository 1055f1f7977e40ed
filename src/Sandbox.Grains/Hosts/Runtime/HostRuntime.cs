using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Options;
using Orleans.Streams;
using Sandbox.Abstractions;
using Sandbox.Grains.Hosts.Artifacts;
using Sandbox.Grains.Hosts.Devices;
using Sandbox.Grains.Hosts.Egress;
using Sandbox.Grains.Hosts.Leases;
using Sandbox.Grains.Hosts.Snapshots;
using Sandbox.Grains.Output;
using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Devices;
using Sandbox.Isolation.Images;
using Sandbox.Snapshots;
using Sandbox.Snapshots.Artifacts;
using Sandbox.Snapshots.Keys;

namespace Sandbox.Grains.Hosts.Runtime;

/// <summary>
/// What a host really is: the backends, the live microVMs, the pumps that carry output into logs, leases and generations. One for each silo. Grains come
/// and go; what has a process, a file or a connection belongs here.
/// </summary>
internal sealed partial class HostRuntime : ILifecycleParticipant<ISiloLifecycle>, IDisposable
{
    private readonly HostOptions _options;
    private readonly Dictionary<string, IIsolationBackend> _backends;
    private readonly IGrainFactory _grains;
    private readonly IServiceProvider _services;
    private readonly TimeProvider _clock;
    private readonly ILogger<HostRuntime> _logger;
    private readonly ImageStore _images;
    private readonly SnapshotStore? _snapshots;
    private readonly GoldenExchange? _exchange;
    private readonly ArtifactCollector _collector;
    private readonly SuspendedExecutions _suspended;
    private readonly HostEgress _egress;
    private readonly HostDevices _devices;
    private readonly Lock _gate = new();
    private readonly SemaphoreSlim _starts;
    private readonly CancellationTokenSource _stopping = new();
    private readonly List<Task> _loops = [];
    private FileStream? _directoryLock;
    private GenerationLedger? _ledger;
    private bool _draining;

    public HostRuntime(
        IOptions<HostOptions> options,
        IEnumerable<IIsolationBackend> backends,
        IGrainFactory grains,
        IOutputLogs logs,
        IServiceProvider services,
        ILogger<HostRuntime> logger)
    {
        _options = options.Value;
        _backends = backends.ToDictionary(b => b.Name, StringComparer.Ordinal);
        _grains = grains;
        _services = services;
        _clock = SandboxClock.Of(services);
        _logger = logger;
        Logs = logs;
        HostId = HostIdentity.LoadOrCreate(_options);
        _images = new ImageStore(_options.ImageRoot);
        _snapshots = services.GetService<SnapshotStore>();
        _exchange = _snapshots is null ? null : new GoldenExchange(_snapshots, logger);
        _collector = new ArtifactCollector(services.GetService<ArtifactStore>(), _options.Artifacts, _clock, logger);
        _suspended = new SuspendedExecutions(_options.SessionDirectory);
        _egress = new HostEgress(_options, services.GetService<TenantSeal>(), _clock, services.GetRequiredService<ILoggerFactory>());
        _starts = new SemaphoreSlim(_options.EffectiveConcurrentStarts);
        _devices = new HostDevices(_options.Devices, HostId, services.GetService<SysfsTree>(), logger);
    }

    /// <summary>This host.</summary>
    public string HostId { get; }

    /// <summary>Its output logs.</summary>
    public IOutputLogs Logs { get; }

    private GenerationLedger Ledger => _ledger ?? throw SandboxException.Unavailable($"Host {HostId} is still starting.");

    /// <inheritdoc/>
    public void Participate(ISiloLifecycle lifecycle)
    {
        lifecycle.Subscribe(nameof(HostRuntime) + ".Prepare", ServiceLifecycleStage.RuntimeInitialize, PrepareAsync, _ => Task.CompletedTask);
        lifecycle.Subscribe(nameof(HostRuntime), ServiceLifecycleStage.Active, StartAsync, StopAsync);
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _ledger?.Dispose();
        _directoryLock?.Dispose();
        _starts.Dispose();
        _collector.Dispose();
        _devices.Dispose();
        _reporting.Dispose();
        _stopping.Dispose();
    }

    private Task PrepareAsync(CancellationToken cancellationToken)
    {
        HostDirectories.CreatePassable(_options.DataDirectory);
        HostDirectories.CreatePassable(Path.Combine(_options.DataDirectory, "sessions"));
        HostDirectories.CreatePrivate(_options.OutputDirectory);
        try
        {
            // Two processes on one data directory would both believe that they own its disks.
            _directoryLock = new FileStream(Path.Combine(_options.DataDirectory, "host.lock"), FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None);
        }
        catch (IOException e)
        {
            throw new InvalidOperationException(
                $"The data directory {_options.DataDirectory} is in use by another process. Stop it, or give this one a directory of its own.", e);
        }

        PreparePools();
        _suspended.Load(Directory.EnumerateDirectories(Path.Combine(_options.DataDirectory, "sessions")).Select(d => Path.GetFileName(d)!).Where(SandboxIds.IsSession));
        _ledger = new GenerationLedger(Path.Combine(_options.DataDirectory, "generations.journal"), _clock);
        return Task.CompletedTask;
    }

    /// <summary>Takes no more sessions; returns those it has.</summary>
    public IReadOnlyList<string> BeginDraining()
    {
        lock (_gate)
        {
            _draining = true;
            return [.. _machines.All.Where(m => m.Machine is not null).Select(m => m.SessionId).Distinct(StringComparer.Ordinal)];
        }
    }

    private Task StartAsync(CancellationToken cancellationToken)
    {
        // Probing boots a guest and may take long: the silo does not wait for it, the scheduler does.
        using (ExecutionContext.SuppressFlow())
        {
            _loops.Add(Task.Run(() => ProbeAsync(_stopping.Token), CancellationToken.None));
            _loops.Add(Task.Run(() => EveryAsync(_options.GoldenPeriod, BuildGoldenAsync), CancellationToken.None));
            _loops.Add(Task.Run(() => EveryAsync(_options.PoolPeriod, AdjustPoolsAsync), CancellationToken.None));
            _loops.Add(Task.Run(() => EveryAsync(_options.ReportPeriod, ReportAsync), CancellationToken.None));
            _loops.Add(Task.Run(() => EveryAsync(_options.ReapPeriod, ReapAsync), CancellationToken.None));
            _loops.Add(Task.Run(() => EveryAsync(ConnectionSweep, ExpireConnectionsAsync), CancellationToken.None));
            _loops.Add(Task.Run(() => EveryAsync(_options.CollectPeriod, CollectAsync), CancellationToken.None));
            _loops.Add(Task.Run(() => EveryAsync(EgressRefresh, RefreshEgressAsync), CancellationToken.None));
        }

        return Task.CompletedTask;
    }

    private async Task StopAsync(CancellationToken cancellationToken)
    {
        List<LiveMicroVm> live;
        lock (_gate)
        {
            _draining = true;
            live = [.. _machines.All];
        }

        await ReportQuietlyAsync();
        await _stopping.CancelAsync();
        foreach (var machine in live)
        {
            machine.RequestStop("its host was stopped");
        }

        // Machines are killed whatever the token says: leaving them is worse than stopping late.
        await Task.WhenAll(live.Select(m => m.Removed)).WaitAsync(TimeSpan.FromSeconds(30), CancellationToken.None)
            .ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        await Task.WhenAll(_pools.Values.Select(p => p.DisposeAsync().AsTask())).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        await Task.WhenAll(_loops).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        await _egress.DisposeAsync();
        _ledger?.Dispose();
        _directoryLock?.Dispose();
    }

    private async Task EveryAsync(TimeSpan period, Func<CancellationToken, Task> action)
    {
        TenantContext.Set(TenantContext.System);
        using var timer = new PeriodicTimer(period);
        try
        {
            do
            {
                try
                {
                    await action(_stopping.Token);
                }
                catch (Exception e) when (!_stopping.IsCancellationRequested)
                {
                    _logger.LogWarning(e, "Periodic work of host {Host} failed; it is repeated", HostId);
                }
            }
            while (await timer.WaitForNextTickAsync(_stopping.Token));
        }
        catch (OperationCanceledException)
        {
            // The host stops.
        }
    }

    private IStreamProvider Streams => _services.GetRequiredKeyedService<IStreamProvider>(OutputStreams.Provider);
}
