using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;
using Microsoft.Extensions.Time.Testing;
using Orleans.Serialization;
using Orleans.Storage;
using Orleans.TestingHost;
using Sandbox.Abstractions;
using Sandbox.Client;
using Sandbox.Grains.Hosts.Runtime;
using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Devices;
using Sandbox.Isolation.Images;
using Sandbox.Isolation.Null;
using Sandbox.Snapshots;
using Sandbox.Snapshots.Keys;

namespace Sandbox.Grains.Tests.Support;

/// <summary>A cluster in this process: silos that are hosts, each with a test backend, over one storage.</summary>
internal sealed class SandboxTestCluster : IAsyncDisposable
{
    private readonly string _root = Path.Combine(Path.GetTempPath(), "grains-" + Guid.NewGuid().ToString("N"));
    private InProcessTestCluster _cluster = null!;
    private int _clusterSerial;
    private Action<SessionOptions> _sessions = _ => { };
    private Action<HostOptions> _hosts = _ => { };
    private int _silos;
    private bool _null;
    private Func<string, SysfsTree>? _devices;

    /// <summary>The clock of sessions and hosts (not of Orleans).</summary>
    public FakeTimeProvider Clock { get; } = new(DateTimeOffset.UtcNow);

    public TestStorage Storage { get; } = new();

    /// <summary>Blobs of the snapshot store, which can be told to fail.</summary>
    public TestBlobs Blobs { get; private set; } = null!;

    /// <summary>Backends by host id, in a cluster of <see cref="StartNullAsync"/>.</summary>
    public Dictionary<string, NullBackend> Nulls { get; } = new(StringComparer.Ordinal);

    /// <summary>Where live machines of the null backend hold their locks; a second one of a session is written down in <c>violations.log</c> there.</summary>
    public string LiveDirectory => Path.Combine(_root, "live");

    /// <summary>Where the hosts write down who has which device: they are servers of one machine.</summary>
    public string LeaseDirectory => Path.Combine(_root, "devices");

    /// <summary>Backends by host id.</summary>
    public Dictionary<string, TestBackend> Backends { get; } = new(StringComparer.Ordinal);

    public InProcessTestCluster Cluster => _cluster;

    public IGrainFactory Grains => _cluster.Client;

    public static async Task<SandboxTestCluster> StartAsync(int silos = 2, Action<SessionOptions>? sessions = null, Action<HostOptions>? hosts = null, Func<string, SysfsTree>? devices = null)
    {
        var cluster = new SandboxTestCluster { _silos = silos, _devices = devices };
        cluster._sessions = sessions ?? cluster._sessions;
        cluster._hosts = hosts ?? cluster._hosts;
        cluster.MakeImages();
        await cluster.DeployAsync();
        return cluster;
    }

    /// <summary>A cluster whose hosts have the null backend, which can save and restore, and a snapshot store; and devices, if it is said which.</summary>
    public static async Task<SandboxTestCluster> StartNullAsync(int silos = 2, Action<SessionOptions>? sessions = null, Action<HostOptions>? hosts = null, Func<string, SysfsTree>? devices = null)
    {
        var cluster = new SandboxTestCluster { _silos = silos, _null = true, _devices = devices };
        cluster._sessions = sessions ?? cluster._sessions;
        cluster._hosts = hosts ?? (o => o.WarmPoolCeiling = 0);
        NullImages.Ensure(Path.Combine(cluster._root, "images"));
        cluster.Blobs = new TestBlobs(Path.Combine(cluster._root, "blobs"));
        await cluster.DeployAsync();
        return cluster;
    }

    public SandboxClient Client(string tenant = "acme", Action<SandboxClientOptions>? options = null)
    {
        var set = new SandboxClientOptions();
        options?.Invoke(set);
        return new SandboxClient(_cluster.Client, tenant, set);
    }

    public TestBackend BackendOf(SessionInfo session) => Backends[session.HostId!];

    /// <summary>Stops all silos, as a server's restart does, and starts new ones on the same storage and data.</summary>
    public async Task RestartAsync()
    {
        await _cluster.StopAllSilosAsync();
        await _cluster.DisposeAsync();
        await DeployAsync();
    }

    public HostRuntime RuntimeOf(int silo) => _cluster.Silos[silo].ServiceProvider.GetRequiredService<HostRuntime>();

    /// <summary>Kills the silo of a host without letting it say anything.</summary>
    public Task KillAsync(string hostId) =>
        _cluster.KillSiloAsync(_cluster.Silos.Single(s => s.ServiceProvider.GetRequiredService<HostRuntime>().HostId == hostId));

    public string DataOf(string hostId) => Path.Combine(_root, hostId);

    public async ValueTask DisposeAsync()
    {
        await _cluster.StopAllSilosAsync();
        await _cluster.DisposeAsync();
        if (Directory.Exists(_root))
        {
            Directory.Delete(_root, recursive: true);
        }
    }

    private async Task DeployAsync()
    {
        var builder = new InProcessTestClusterBuilder((short)_silos);
        builder.Options.ClusterId = $"test-{Guid.NewGuid():N}-{_clusterSerial++}";

        // Silos are configured at the same time.
        var last = -1;
        builder.ConfigureSilo((_, silo) =>
        {
            var host = $"host-{(char)('a' + Interlocked.Increment(ref last))}";
            silo.Services.AddSingleton(BackendOf(host));
            if (_devices is not null)
            {
                silo.Services.AddSingleton(_devices(host));
            }

            if (_null)
            {
                silo.Services.AddSingleton(s => new SnapshotStore(Blobs, new MasterKeyProvider(new byte[32]), TimeProvider.System, s.GetRequiredService<ILogger<SnapshotStore>>()));
            }

            silo.Services.AddSingleton(new TenantSeal(new MasterKeyProvider(new byte[32])));
            silo.Services.AddKeyedSingleton<TimeProvider>(SandboxClock.Key, Clock);
            foreach (var name in new[] { StorageNames.Provider, StorageNames.PubSub })
            {
                silo.Services.AddKeyedSingleton<IGrainStorage>(name, (s, _) => Storage.For(s.GetRequiredService<Serializer>()));
            }

            silo.UseInMemoryReminderService();
            silo.AddSandboxGrains(
                o =>
                {
                    o.HostId = host;
                    o.DataDirectory = DataOf(host);
                    o.ImageRoot = Path.Combine(_root, "images");
                    o.MemoryMiB = 8192;
                    o.Devices = new DeviceOptions { Enabled = _devices is not null, LeaseDirectory = LeaseDirectory, DevRoot = _root, CdiDirectories = [] };
                    o.ReportPeriod = TimeSpan.FromMilliseconds(100);
                    _hosts(o);
                },
                o =>
                {
                    o.ClockPeriod = TimeSpan.FromMilliseconds(50);
                    o.RetryDelay = TimeSpan.FromMilliseconds(50);
                    _sessions(o);
                });
        });
        builder.ConfigureClient(client => client.AddSandboxStreams());
        builder.ConfigureSiloHost((_, host) => host.Logging.SetMinimumLevel(LogLevel.Warning));
        _cluster = builder.Build();
        await _cluster.DeployAsync();
    }

    private IIsolationBackend BackendOf(string host)
    {
        lock (Backends)
        {
            if (_null)
            {
                return Nulls[host] = new NullBackend(new NullOptions { HostId = host, LiveDirectory = LiveDirectory, Devices = _devices is not null }, NullLogger.Instance);
            }

            if (!Backends.TryGetValue(host, out var backend))
            {
                Backends[host] = backend = new TestBackend { Handover = _devices is null ? DeviceHandover.None : DeviceHandover.Vfio };
            }

            return backend;
        }
    }

    private void MakeImages()
    {
        var store = new ImageStore(Path.Combine(_root, "images"));
        var directory = store.VersionDirectory("python", "0123456789abcdef");
        Directory.CreateDirectory(directory);
        new TemplateImage
        {
            Template = "python",
            Version = "0123456789abcdef",
            BuiltAt = DateTimeOffset.UnixEpoch,
            KernelRelease = "test",
            Languages = ["python", "bash"],
        }.Save(directory);
        store.SetCurrent("python", "0123456789abcdef");
    }
}
