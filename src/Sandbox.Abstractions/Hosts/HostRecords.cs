namespace Sandbox.Abstractions;

/// <summary>What a host says of itself, every few seconds.</summary>
[GenerateSerializer, Alias("sandbox.host-report"), Immutable]
public sealed record HostReport
{
    /// <summary>Host id; survives restarts.</summary>
    [Id(0)] public required string HostId { get; init; }

    /// <summary>When the report was made (UTC).</summary>
    [Id(1)] public required DateTimeOffset At { get; init; }

    /// <summary>Memory the host may give to microVMs, in MiB.</summary>
    [Id(2)] public required int MemoryMiB { get; init; }

    /// <summary>Memory leased, in MiB.</summary>
    [Id(3)] public required int MemoryLeasedMiB { get; init; }

    /// <summary>CPU cores.</summary>
    [Id(4)] public required int Cpus { get; init; }

    /// <summary>Live microVMs.</summary>
    [Id(5)] public required int MicroVms { get; init; }

    /// <summary>Most microVMs it takes.</summary>
    [Id(6)] public required int MaxMicroVms { get; init; }

    /// <summary>Backends with their verdicts.</summary>
    [Id(7)] public required IReadOnlyList<HostBackend> Backends { get; init; }

    /// <summary>Templates it has: id to version.</summary>
    [Id(8)] public required IReadOnlyDictionary<string, string> Templates { get; init; }

    /// <summary>It takes no new sessions (it is shutting down).</summary>
    [Id(9)] public bool Draining { get; init; }

    /// <summary>Machines ready in the warm pool of each template.</summary>
    [Id(10)] public IReadOnlyDictionary<string, int> Warm { get; init; } = new Dictionary<string, int>();

    /// <summary>Kind of each template's image (<c>linux</c>, <c>wasm</c>): which backends can start it. One that is missing is <c>linux</c>.</summary>
    [Id(11)] public IReadOnlyDictionary<string, string> TemplateKinds { get; init; } = new Dictionary<string, string>();

    /// <summary>Devices (GPUs, NPUs) that it offers to sessions, in the order of their addresses.</summary>
    [Id(20)] public IReadOnlyList<HostDeviceReport> Devices { get; init; } = [];
}

/// <summary>A device that a host offers to sessions.</summary>
[GenerateSerializer, Alias("sandbox.host-device"), Immutable]
public sealed record HostDeviceReport
{
    /// <summary>PCI address, as the kernel writes it: <c>0000:3b:00.0</c>.</summary>
    [Id(0)] public required string Address { get; init; }

    /// <summary><c>gpu</c> or <c>npu</c>.</summary>
    [Id(1)] public required string Kind { get; init; }

    /// <summary>PCI vendor and device in hexadecimal: <c>10de:2684</c>.</summary>
    [Id(2)] public required string Model { get; init; }

    /// <summary><c>free</c>, <c>leased</c>, <c>dirty</c> (to be reset) or <c>resetting</c>. Anything but free: no session gets it now.</summary>
    [Id(3)] public required string State { get; init; }

    /// <summary>What goes to one machine with it; <see langword="null"/>: it cannot be handed out at all.</summary>
    [Id(4)] public int? Group { get; init; }

    /// <summary>Backends of this host that can hand it to a machine.</summary>
    [Id(5)] public IReadOnlyList<string> Backends { get; init; } = [];

    /// <summary>Why its last reset failed, or <see langword="null"/>.</summary>
    [Id(6)] public string? Problem { get; init; }
}

/// <summary>A backend on a host.</summary>
[GenerateSerializer, Alias("sandbox.host-backend"), Immutable]
public sealed record HostBackend
{
    /// <summary>Name.</summary>
    [Id(0)] public required string Name { get; init; }

    /// <summary>Sessions can be started.</summary>
    [Id(1)] public required bool Usable { get; init; }

    /// <summary><c>kvm</c>, <c>tcg</c> or empty.</summary>
    [Id(2)] public string Accelerator { get; init; } = "";

    /// <summary>Why.</summary>
    [Id(3)] public string Reason { get; init; } = "";

    /// <summary>Version of the program.</summary>
    [Id(4)] public string Version { get; init; } = "";

    /// <summary>What an operator must know.</summary>
    [Id(5)] public IReadOnlyList<string> Warnings { get; init; } = [];

    /// <summary>It is still being tried out; whether it is usable is not known yet.</summary>
    [Id(7)] public bool Probing { get; init; }

    /// <summary>It can save and restore machines with their memory: sessions can be paused, forked and rolled back.</summary>
    [Id(8)] public bool MemorySnapshot { get; init; }

    /// <summary>Untrusted code may run on it: something else than the host's own kernel takes the code's system calls.</summary>
    [Id(9)] public bool TakesUntrusted { get; init; }

    /// <summary>It can save at least the disk; without <see cref="MemorySnapshot"/> a restored session has its files and nothing that ran.</summary>
    [Id(10)] public bool DiskSnapshot { get; init; }

    /// <summary>Several machines can be started from one saved machine.</summary>
    [Id(11)] public bool Fork { get; init; }

    /// <summary>It runs any program of the image; false: only code in contexts and what the backend itself knows how to run.</summary>
    [Id(12)] public bool Processes { get; init; } = true;

    /// <summary>It can give a machine a network interface.</summary>
    [Id(13)] public bool Network { get; init; }

    /// <summary>It can hand a device of the host (a GPU) to a machine.</summary>
    [Id(14)] public bool Devices { get; init; }

    /// <summary>What stands between a session's code and the host.</summary>
    [Id(16)] public IsolationBoundary Boundary { get; init; }

    /// <summary>Kind of images it starts, see <see cref="HostReport.TemplateKinds"/>.</summary>
    [Id(15)] public string ImageKind { get; init; } = "linux";
}

/// <summary>A reservation of a host's capacity for one generation of a session.</summary>
[GenerateSerializer, Alias("sandbox.host-lease"), Immutable]
public sealed record HostLease(
    [property: Id(0)] string SessionId,
    [property: Id(1)] long Generation,
    [property: Id(2)] string VmId,
    [property: Id(3)] int Vcpus,
    [property: Id(4)] int MemoryMiB);

/// <summary>What a session needs of a host.</summary>
[GenerateSerializer, Alias("sandbox.placement-request"), Immutable]
public sealed record PlacementRequest
{
    /// <summary>Template id.</summary>
    [Id(0)] public required string Template { get; init; }

    /// <summary>Memory in MiB.</summary>
    [Id(1)] public required int MemoryMiB { get; init; }

    /// <summary>Backend by name, or unset.</summary>
    [Id(2)] public string? Backend { get; init; }

    /// <summary>The session may not run on a backend whose boundary is the host's kernel.</summary>
    [Id(3)] public bool Untrusted { get; init; } = true;

    /// <summary>Prefer this host (its disk or snapshot is there).</summary>
    [Id(4)] public string? PreferredHost { get; init; }

    /// <summary>Only this host will do (its disk exists nowhere else).</summary>
    [Id(5)] public bool PreferredHostOnly { get; init; }

    /// <summary>Hosts that were tried already.</summary>
    [Id(6)] public IReadOnlyList<string> Excluded { get; init; } = [];

    /// <summary>What else the session needs of its isolation.</summary>
    [Id(7)] public SessionNeeds Needs { get; init; } = SessionNeeds.Nothing;
}

/// <summary>Where a session shall run.</summary>
[GenerateSerializer, Alias("sandbox.placement"), Immutable]
public sealed record Placement([property: Id(0)] string HostId, [property: Id(1)] string Backend, [property: Id(2)] string TemplateVersion)
{
    /// <summary>Addresses of the devices that were free there for it. The host itself chooses, when the machine starts.</summary>
    [Id(20)] public IReadOnlyList<string> Devices { get; init; } = [];
}
