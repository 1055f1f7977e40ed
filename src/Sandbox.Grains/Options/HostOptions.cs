namespace Sandbox.Grains;

/// <summary>What one host offers and where it keeps its things.</summary>
public sealed class HostOptions
{
    /// <summary>
    /// Host id, <c>[a-z0-9][a-z0-9.-]{0,62}</c>. Empty: made once and kept in the file <c>host-id</c> of <see cref="DataDirectory"/>, so that it survives restarts.
    /// </summary>
    public string HostId { get; set; } = "";

    /// <summary>Where session disks, output logs and the ledger of generations live. One process at a time may use it.</summary>
    public string DataDirectory { get; set; } = "/var/lib/sandbox";

    /// <summary>Root of the template images (see <see cref="Isolation.Images.ImageStore"/>).</summary>
    public string ImageRoot { get; set; } = Isolation.Images.ImageStore.DefaultRoot;

    /// <summary>Memory that microVMs may have together, in MiB. 0: three quarters of the machine's.</summary>
    public int MemoryMiB { get; set; }

    /// <summary>Most microVMs at once. 0: eight for each core, at least 16.</summary>
    public int MaxMicroVms { get; set; }

    /// <summary>Most microVMs being started at once; others wait their turn. 0: as many as cores.</summary>
    public int MaxConcurrentStarts { get; set; }

    /// <summary>Most output bytes kept of an execution that names no limit of its own. Default 16 MiB.</summary>
    public long DefaultOutputLimitBytes { get; set; } = 16L * 1024 * 1024;

    /// <summary>How long the output of an execution is kept in a session that lives longer than that. Default 30 days.</summary>
    public TimeSpan OutputRetention { get; set; } = TimeSpan.FromDays(30);

    /// <summary>How often the host reports itself to the scheduler. A host silent for 15 s gets no new sessions.</summary>
    public TimeSpan ReportPeriod { get; set; } = TimeSpan.FromSeconds(2);

    /// <summary>How often leftovers are looked for and removed.</summary>
    public TimeSpan ReapPeriod { get; set; } = TimeSpan.FromMinutes(1);

    /// <summary>How often the host looks whether a template lacks its golden snapshot, and makes it.</summary>
    public TimeSpan GoldenPeriod { get; set; } = TimeSpan.FromMinutes(1);

    /// <summary>Machines that each template's warm pool keeps ready at least, where memory allows. Default 1.</summary>
    public int WarmPoolFloor { get; set; } = 1;

    /// <summary>Machines that a warm pool keeps ready at most, however many sessions arrive. 0: no pools. Default 4.</summary>
    public int WarmPoolCeiling { get; set; } = 4;

    /// <summary>How often pools are looked after.</summary>
    public TimeSpan PoolPeriod { get; set; } = TimeSpan.FromMilliseconds(500);

    /// <summary>Put golden snapshots into the snapshot store, so that other hosts can restore what this one saved. For clusters; one host alone has them already.</summary>
    public bool ShareGolden { get; set; }

    /// <summary>How often the snapshot store is rid of what no snapshot needs any more.</summary>
    public TimeSpan CollectPeriod { get; set; } = TimeSpan.FromHours(6);

    /// <summary>How long one request to a guest agent may take.</summary>
    public TimeSpan GuestRequestTimeout { get; set; } = TimeSpan.FromSeconds(25);

    /// <summary>How long a microVM may take to start, waiting for its turn included.</summary>
    public TimeSpan StartTimeout { get; set; } = TimeSpan.FromSeconds(170);

    /// <summary>How long a host that is being stopped may take to pause its sessions, so that they go on after it is started again, or elsewhere. 0, the default: they are not paused, and lose what runs in them.</summary>
    public TimeSpan DrainTimeout { get; set; }

    /// <summary>How sessions reach the outside.</summary>
    public EgressOptions Egress { get; set; } = new();

    /// <summary>What is taken of the files that executions make.</summary>
    public ArtifactOptions Artifacts { get; set; } = new();

    /// <summary>Which of its devices the host offers to sessions.</summary>
    public DeviceOptions Devices { get; set; } = new();

    internal int EffectiveMemoryMiB => MemoryMiB > 0 ? MemoryMiB : (int)Math.Min(int.MaxValue, GC.GetGCMemoryInfo().TotalAvailableMemoryBytes / (1024 * 1024) * 3 / 4);

    internal int EffectiveMaxMicroVms => MaxMicroVms > 0 ? MaxMicroVms : Math.Max(16, Environment.ProcessorCount * 8);

    internal int EffectiveConcurrentStarts => MaxConcurrentStarts > 0 ? MaxConcurrentStarts : Environment.ProcessorCount;

    internal string SessionDirectory(string sessionId) => Path.Combine(DataDirectory, "sessions", sessionId);

    internal string OutputDirectory => Path.Combine(DataDirectory, "outputs");
}
