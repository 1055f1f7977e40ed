using Orleans.Concurrency;

namespace Sandbox.Abstractions;

/// <summary>
/// One microVM. Key: <c>host/vm</c>; lives on that host's silo and never moves. Thin: the processes and connections belong to the host's runtime, which
/// outlives activations. Every call names the generation it is meant for; a microVM of another generation refuses with <see cref="SandboxErrorCode.Conflict"/>.
/// Called by session grains only.
/// </summary>
[Alias("sandbox.IMicroVmGrain")]
public interface IMicroVmGrain : IGrainWithStringKey
{
    /// <summary>Starts the microVM and returns once user code may run. Repeating the call for the same generation joins the start under way.</summary>
    [Alias("start"), AlwaysInterleave, ResponseTimeout("00:03:00")]
    Task<MicroVmStarted> StartAsync(MicroVmStart start);

    /// <summary>Whether the microVM of this generation is alive.</summary>
    [Alias("alive"), AlwaysInterleave, ResponseTimeout("00:00:10")]
    Task<bool> IsAliveAsync(long generation);

    /// <summary>Kills the microVM and removes what it held. Not finding it is no error.</summary>
    [Alias("stop"), AlwaysInterleave]
    Task StopAsync(long generation, string reason);

    /// <summary>
    /// Saves the machine to the snapshot store; when this returns the snapshot is committed. With <see cref="MicroVmSave.Stop"/> the machine stands still afterwards, its executions' logs are marked as suspended, and
    /// <see cref="StopAsync"/> or <see cref="ContinueAsync"/> must follow. If it fails the machine runs on. Repeating the call for the same snapshot joins the save under way.
    /// </summary>
    [Alias("save"), AlwaysInterleave, ResponseTimeout("00:03:00")]
    Task<MicroVmSaved> SaveAsync(long generation, MicroVmSave save);

    /// <summary>Gives up a save that is under way, removes what it stored, and lets the machine run on.</summary>
    [Alias("continue"), AlwaysInterleave, ResponseTimeout("00:01:00")]
    Task ContinueAsync(long generation, string snapshotId);

    /// <summary>Kills the microVM of a session that is paused, or lives elsewhere now, and removes its disk; its outputs stay. Not finding it is no error.</summary>
    [Alias("discard"), AlwaysInterleave]
    Task DiscardAsync(string sessionId, long generation, string reason);

    /// <summary>Holds the machine's traffic to another policy; an older version than is in force changes nothing. Answers where its egress stands.</summary>
    [Alias("set-egress"), AlwaysInterleave]
    Task<EgressMark> SetEgressAsync(long generation, MicroVmEgress egress);

    /// <summary>Where its egress stands.</summary>
    [Alias("egress-mark"), AlwaysInterleave]
    Task<EgressMark> GetEgressAsync(long generation);

    /// <summary>Starts an execution whose output goes to this host's log.</summary>
    [Alias("start-execution"), AlwaysInterleave]
    Task<int> StartExecutionAsync(long generation, string executionId, ExecutionRequest request);

    /// <summary>Standard input.</summary>
    [Alias("stdin"), AlwaysInterleave]
    Task WriteStdinAsync(long generation, string executionId, ReadOnlyMemory<byte> data, bool endOfFile);

    /// <summary>A signal.</summary>
    [Alias("signal"), AlwaysInterleave]
    Task SignalAsync(long generation, string executionId, int signal);

    /// <summary>A terminal's size.</summary>
    [Alias("resize"), AlwaysInterleave]
    Task ResizeAsync(long generation, string executionId, TerminalSize size);

    /// <summary>
    /// One unary request to the guest agent (files, contexts, metrics), as a serialized <c>sandbox.guest.v1.Request</c>; the answer is a serialized <c>Response</c>.
    /// Bytes, so that the contract of grains does not repeat the guest protocol.
    /// </summary>
    [Alias("guest-request"), AlwaysInterleave]
    Task<Immutable<byte[]>> RequestAsync(long generation, Immutable<byte[]> request);

    /// <summary>Connects to a port on the guest's loopback address; returns the key of the connection's <see cref="IPortGrain"/>.</summary>
    [Alias("open-port"), AlwaysInterleave]
    Task<string> OpenPortAsync(long generation, int port);

    /// <summary>Watches a directory; returns the watch's number.</summary>
    [Alias("watch"), AlwaysInterleave]
    Task<long> WatchAsync(long generation, string path, bool recursive, string? user);

    /// <summary>The next events of a watch; waits up to <paramref name="wait"/>, at most 20 s, for the first.</summary>
    [Alias("read-watch"), AlwaysInterleave]
    Task<FileEventPage> ReadWatchAsync(long generation, long watch, TimeSpan wait);

    /// <summary>Ends a watch. Ending an ended one is no error.</summary>
    [Alias("unwatch"), AlwaysInterleave]
    Task UnwatchAsync(long generation, long watch);
}

/// <summary>What a microVM is started with.</summary>
[GenerateSerializer, Alias("sandbox.microvm-start"), Immutable]
public sealed record MicroVmStart
{
    /// <summary>The session it will serve.</summary>
    [Id(0)] public required string SessionId { get; init; }

    /// <summary>Tenant, for the calls it makes back.</summary>
    [Id(1)] public required string Tenant { get; init; }

    /// <summary>Generation.</summary>
    [Id(2)] public required long Generation { get; init; }

    /// <summary>Template id.</summary>
    [Id(3)] public required string Template { get; init; }

    /// <summary>Template version.</summary>
    [Id(4)] public required string TemplateVersion { get; init; }

    /// <summary>Backend.</summary>
    [Id(5)] public required string Backend { get; init; }

    /// <summary>vCPUs.</summary>
    [Id(6)] public required int Vcpus { get; init; }

    /// <summary>Memory in MiB.</summary>
    [Id(7)] public required int MemoryMiB { get; init; }

    /// <summary>Disk in MiB.</summary>
    [Id(8)] public required int DiskMiB { get; init; }

    /// <summary>The saved machine to bring back, or <see langword="null"/> for one that is new or has its disk here.</summary>
    [Id(9)] public MicroVmRestore? Restore { get; init; }

    /// <summary>What its traffic is held to.</summary>
    [Id(20)] public MicroVmEgress Egress { get; init; } = new() { Policy = EgressPolicy.Nothing };

    /// <summary>Devices of the host that it gets to itself: acquired before it starts, reset when it is gone.</summary>
    [Id(21)] public IReadOnlyList<DeviceNeed> Devices { get; init; } = [];
}

/// <summary>What a microVM is restored from.</summary>
[GenerateSerializer, Alias("sandbox.microvm-restore"), Immutable]
public sealed record MicroVmRestore
{
    /// <summary>The snapshot.</summary>
    [Id(0)] public required string SnapshotId { get; init; }

    /// <summary>A snapshot of another session that <see cref="SnapshotId"/> is to be made a copy of first, if it does not exist yet.</summary>
    [Id(1)] public string? CopyOf { get; init; }

    /// <summary>Executions that go on: id in the snapshot to id from now on. What is not named is killed.</summary>
    [Id(2)] public IReadOnlyDictionary<string, string> Executions { get; init; } = new Dictionary<string, string>();

    /// <summary>The logs of executions that ended before are taken out of the snapshot where this host does not have them.</summary>
    [Id(3)] public bool ImportLogs { get; init; }

    /// <summary>How many machines are likely to be restored from this state on one host: decides whether a memory is made that they share, where none is at hand.</summary>
    [Id(4)] public int Siblings { get; init; } = 1;
}

/// <summary>What a microVM is saved as.</summary>
[GenerateSerializer, Alias("sandbox.microvm-save"), Immutable]
public sealed record MicroVmSave
{
    /// <summary>The snapshot's id, never used before.</summary>
    [Id(0)] public required string SnapshotId { get; init; }

    /// <summary>A snapshot that holds much of the same, or <see langword="null"/>.</summary>
    [Id(1)] public string? ParentId { get; init; }

    /// <summary>The machine stands still afterwards, so that it can be removed once its session is stored as paused.</summary>
    [Id(2)] public bool Stop { get; init; }

    /// <summary>The machine runs on, and others are about to be restored from the snapshot on this host: they and it share its memory where the backend can. Not with <see cref="Stop"/>.</summary>
    [Id(3)] public bool Fork { get; init; }
}

/// <summary>A committed snapshot.</summary>
[GenerateSerializer, Alias("sandbox.microvm-saved"), Immutable]
public sealed record MicroVmSaved
{
    /// <summary>Bytes added to the store.</summary>
    [Id(0)] public required long StoredBytes { get; init; }

    /// <summary>Memory saved, in bytes.</summary>
    [Id(1)] public required long MemoryBytes { get; init; }

    /// <summary>Disk saved, in bytes.</summary>
    [Id(2)] public required long DiskBytes { get; init; }

    /// <summary>How long the machine stood still.</summary>
    [Id(3)] public required TimeSpan Stopped { get; init; }

    /// <summary>How long it took in all.</summary>
    [Id(4)] public required TimeSpan Duration { get; init; }

    /// <summary>Executions that were running in it.</summary>
    [Id(5)] public required IReadOnlyList<string> Executions { get; init; }

    /// <summary>Where its egress stood.</summary>
    [Id(6)] public EgressMark Egress { get; init; } = new();
}

/// <summary>How a microVM started.</summary>
[GenerateSerializer, Alias("sandbox.microvm-started"), Immutable]
public sealed record MicroVmStarted
{
    /// <summary><c>boot</c>, <c>clone</c>, <c>pool</c>, <c>restore</c>.</summary>
    [Id(0)] public required string Method { get; init; }

    /// <summary><c>kvm</c>, <c>tcg</c> or empty.</summary>
    [Id(1)] public required string Accelerator { get; init; }

    /// <summary>Duration.</summary>
    [Id(2)] public required TimeSpan Duration { get; init; }

    /// <summary>The session's disk existed before: files were kept.</summary>
    [Id(3)] public bool DiskExisted { get; init; }

    /// <summary>What the owner must know.</summary>
    [Id(4)] public IReadOnlyList<string> Warnings { get; init; } = [];

    /// <summary>
    /// Executions that went on: id from now on to id in the snapshot. Those that were to go on and are not named were lost. An id that was to stay may have changed: its log had been written to since the snapshot.
    /// </summary>
    [Id(5)] public IReadOnlyDictionary<string, string> Executions { get; init; } = new Dictionary<string, string>();

    /// <summary>Executions whose logs were taken out of the snapshot.</summary>
    [Id(6)] public IReadOnlyList<string> ImportedLogs { get; init; } = [];

    /// <summary>The machine can be saved, with its memory unless <see cref="DiskOnly"/>.</summary>
    [Id(7)] public bool CanSave { get; init; }

    /// <summary>What is saved of it is its disk alone: whatever runs in it ends with a pause.</summary>
    [Id(8)] public bool DiskOnly { get; init; }

    /// <summary>It has a network that its egress policy governs.</summary>
    [Id(20)] public bool Network { get; init; }
}
