using Sandbox.E2b;
using Sandbox.Gateway;
using Sandbox.Grains;
using Sandbox.Isolation.Images;

namespace Sandbox.Server;

/// <summary>What this process is.</summary>
public enum ServerRole
{
    /// <summary>Silo and HTTP facade in one process.</summary>
    All = 0,

    /// <summary>A host for microVMs; no HTTP but the health checks.</summary>
    Silo = 1,

    /// <summary>HTTP facade only; needs a cluster to talk to.</summary>
    Gateway = 2,
}

/// <summary>
/// How the server runs. <see cref="ServerSettings"/> reads it from the configuration file, the environment and the command line; what is not said takes a
/// default that works on one machine.
/// </summary>
public sealed record ServerOptions
{
    /// <summary>What this process is.</summary>
    public ServerRole Role { get; init; } = ServerRole.All;

    /// <summary>Addresses to listen on.</summary>
    public IReadOnlyList<string> Urls { get; init; } = ["http://127.0.0.1:8080"];

    /// <summary>Where everything durable of this process is.</summary>
    public string DataDirectory { get; init; } = DefaultDataDirectory;

    /// <summary>Root of the guest images.</summary>
    public string ImageRoot { get; init; } = ImageStore.DefaultRoot;

    /// <summary>Host id; empty: made once and kept in the data directory.</summary>
    public string HostId { get; init; } = "";

    /// <summary>Redis for cluster membership, as StackExchange.Redis spells it; empty: one process, no cluster.</summary>
    public string Redis { get; init; } = "";

    /// <summary>PostgreSQL for state and reminders, as Npgsql spells it; empty: SQLite in the data directory.</summary>
    public string Postgres { get; init; } = "";

    /// <summary>Cluster id: silos of one cluster share it.</summary>
    public string ClusterId { get; init; } = "sandbox";

    /// <summary>Service id: state belongs to it; it outlives clusters.</summary>
    public string ServiceId { get; init; } = "sandbox";

    /// <summary>Address that other silos reach this one at.</summary>
    public string AdvertisedAddress { get; init; } = "127.0.0.1";

    /// <summary>Port among silos; 0: a free one.</summary>
    public int SiloPort { get; init; }

    /// <summary>Port for Orleans clients; 0: a free one.</summary>
    public int OrleansGatewayPort { get; init; }

    /// <summary><c>auto</c>, <c>kvm</c> or <c>tcg</c>.</summary>
    public string Accelerator { get; init; } = "auto";

    /// <summary>
    /// The isolation backends to offer, of <c>qemu</c>, <c>firecracker</c>, <c>oci</c>, <c>gvisor</c> and <c>wasm</c>. Each is tried out at start; one that is not usable here takes no sessions. Empty where nothing but the
    /// control plane is tested: then nothing is tried.
    /// </summary>
    public IReadOnlyList<string> Backends { get; init; } = AllBackends;

    /// <summary>Names that <see cref="Backends"/> may hold.</summary>
    public static IReadOnlyList<string> AllBackends { get; } = ["qemu", "firecracker", "oci", "gvisor", "wasm"];

    /// <summary>
    /// Offer the backend <c>null</c>, which runs no code, and the template <c>null</c> for it: for tests and measurements of the control plane only. Needs an <see cref="ImageRoot"/> of its own.
    /// </summary>
    public bool NullBackend { get; init; }

    /// <summary>For tests that kill the server: where machines of the backend <c>null</c> show that they live, and that two of one session did; empty: nowhere.</summary>
    public string NullLiveDirectory { get; init; } = "";

    /// <summary>For tests: the backend <c>null</c> claims to hand devices to its machines.</summary>
    public bool NullDevices { get; init; }

    /// <summary>Which devices (GPUs) this host offers to sessions, and where it writes down who has them.</summary>
    public DeviceOptions Devices { get; init; } = new();

    /// <summary>Memory that microVMs may have together, in MiB; 0: three quarters of the machine's.</summary>
    public int MemoryMiB { get; init; }

    /// <summary>Most microVMs at once; 0: by cores.</summary>
    public int MaxMicroVms { get; init; }

    /// <summary>Machines that wait for sessions in each template's warm pool, at most; see <see cref="Sandbox.Grains.HostOptions.WarmPoolCeiling"/>. 0: none.</summary>
    public int WarmPool { get; init; } = 4;

    /// <summary>Idle timeout of sessions that name none.</summary>
    public TimeSpan DefaultIdleTimeout { get; init; } = TimeSpan.FromMinutes(30);

    /// <summary>Lifetime of sessions that name none; paused time counts.</summary>
    public TimeSpan DefaultMaxLifetime { get; init; } = TimeSpan.FromDays(30);

    /// <summary>Directory of the snapshot store; empty: <c>snapshots</c> in the data directory. In a cluster: on a file system that all hosts share.</summary>
    public string SnapshotDirectory { get; init; } = "";

    /// <summary>File of the master key that snapshots are encrypted under; empty: <c>snapshot.key</c> in the data directory, made if missing. In a cluster: the same content on all hosts.</summary>
    public string SnapshotKeyFile { get; init; } = "";

    /// <summary>S3 bucket of the snapshot store, instead of a directory; empty: none. Credentials are found as Amazon's tools find them.</summary>
    public string S3Bucket { get; init; } = "";

    /// <summary>Put before the names of all objects.</summary>
    public string S3Prefix { get; init; } = "";

    /// <summary>Address of an S3 store that is not Amazon's.</summary>
    public string S3Endpoint { get; init; } = "";

    /// <summary>Region of the bucket.</summary>
    public string S3Region { get; init; } = "";

    /// <summary>File that a first API key of the tenant <c>default</c> is written to, if there is none yet; empty: no.</summary>
    public string BootstrapKeyFile { get; init; } = "";

    /// <summary>Stop on SIGTERM and SIGINT. Not where the server is a part of a program that has its own use for them.</summary>
    public bool HandleSignals { get; init; } = true;

    /// <summary>The HTTP facade.</summary>
    public GatewayOptions Gateway { get; init; } = new();

    /// <summary>How long a stop may take to pause sessions, which then go on after the next start or on another host; 0: they are not paused. At most 25 s, because a stop as a whole has 30.</summary>
    public TimeSpan DrainTimeout { get; init; } = TimeSpan.FromSeconds(20);

    /// <summary>Certificate chain (PEM) for addresses that begin with https; empty: none can be listened on.</summary>
    public string TlsCertificate { get; init; } = "";

    /// <summary>The certificate's private key (PEM).</summary>
    public string TlsKey { get; init; } = "";

    /// <summary>How sessions of this host reach the outside.</summary>
    public EgressOptions Egress { get; init; } = new();

    /// <summary>The E2B-compatible facade.</summary>
    public E2bOptions E2b { get; init; } = new();

    /// <summary>Root keeps its data in /var/lib/sandbox, others in their home.</summary>
    public static string DefaultDataDirectory => Environment.IsPrivilegedProcess
        ? "/var/lib/sandbox"
        : Path.Combine(Environment.GetFolderPath(Environment.SpecialFolder.LocalApplicationData), "sandbox");
}

/// <summary>Why the server cannot start, in one line that says what to do.</summary>
public class ServerException(string message, Exception? inner = null) : Exception(message, inner);

/// <summary>Another server has the data directory.</summary>
public sealed class DataDirectoryInUseException(string message, Exception? inner = null) : ServerException(message, inner);
