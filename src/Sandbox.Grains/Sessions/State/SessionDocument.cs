using Sandbox.Abstractions;

namespace Sandbox.Grains.Sessions.State;

/// <summary>What is stored of a session, except its executions. Immutable: a change is a new document that becomes true once it is written.</summary>
[GenerateSerializer, Alias("sandbox.state.session"), Immutable]
internal sealed record SessionDocument
{
    [Id(0)] public string Id { get; init; } = "";

    [Id(1)] public string Tenant { get; init; } = "";

    [Id(2)] public SessionState State { get; init; }

    [Id(3)] public string? Cause { get; init; }

    [Id(4)] public string Template { get; init; } = "";

    [Id(5)] public string? TemplateVersion { get; init; }

    /// <summary>Backend asked for, or <see langword="null"/>.</summary>
    [Id(6)] public string? RequestedBackend { get; init; }

    [Id(7)] public string? Backend { get; init; }

    [Id(8)] public string? Accelerator { get; init; }

    [Id(9)] public int Vcpus { get; init; }

    [Id(10)] public int MemoryMiB { get; init; }

    [Id(11)] public int DiskMiB { get; init; }

    [Id(12)] public string? HostId { get; init; }

    [Id(13)] public string? VmId { get; init; }

    [Id(14)] public long Generation { get; init; }

    [Id(15)] public string? StartMethod { get; init; }

    [Id(16)] public TimeSpan? StartDuration { get; init; }

    [Id(17)] public DateTimeOffset CreatedAt { get; init; }

    [Id(18)] public DateTimeOffset StateChangedAt { get; init; }

    [Id(19)] public DateTimeOffset LastActivityAt { get; init; }

    [Id(20)] public TimeSpan IdleTimeout { get; init; }

    [Id(21)] public TimeSpan MaxLifetime { get; init; }

    [Id(22)] public Dictionary<string, string> Env { get; init; } = [];

    [Id(23)] public Dictionary<string, string> Metadata { get; init; } = [];

    [Id(24)] public bool Untrusted { get; init; } = true;

    [Id(25)] public List<SessionRecovery> Recoveries { get; init; } = [];

    [Id(26)] public List<string> Warnings { get; init; } = [];

    [Id(27)] public List<IdempotencyRecord> Keys { get; init; } = [];

    [Id(28)] public List<ContextDocument> Contexts { get; init; } = [];

    /// <summary>When microVMs were lost lately.</summary>
    [Id(29)] public List<DateTimeOffset> Losses { get; init; } = [];

    /// <summary>Hosts that hold something of this session (disk, outputs) which its end must remove.</summary>
    [Id(30)] public List<string> HostsUsed { get; init; } = [];

    /// <summary>Languages of the template's contexts.</summary>
    [Id(31)] public List<string> Languages { get; init; } = [];

    [Id(32)] public IdleAction IdleAction { get; init; }

    [Id(33)] public CheckpointPolicy Policy { get; init; } = new();

    /// <summary>Oldest first.</summary>
    [Id(34)] public List<CheckpointDocument> Checkpoints { get; init; } = [];

    /// <summary>Number of the newest checkpoint there ever was.</summary>
    [Id(35)] public int LastCheckpoint { get; init; }

    /// <summary>Snapshots that are being written, or were given up or replaced: what is not a checkpoint in the end is deleted.</summary>
    [Id(36)] public List<string> Loose { get; init; } = [];

    /// <summary>In Pausing: the checkpoint that the pause will be.</summary>
    [Id(37)] public CheckpointDocument? Pending { get; init; }

    /// <summary>In Paused, Resuming and Creating: the checkpoint to go on from; <see langword="null"/>: a new machine, or the disk on <see cref="HostId"/>.</summary>
    [Id(38)] public ResumePoint? Resume { get; init; }

    [Id(39)] public SessionOrigin? Origin { get; init; }

    /// <summary>Its machine can be saved, with its memory unless <see cref="DiskOnly"/>.</summary>
    [Id(40)] public bool CanSave { get; init; }

    /// <summary>It has ended and is out of its tenant's index.</summary>
    [Id(41)] public bool Unlisted { get; init; }

    [Id(42)] public TimeSpan? RunLimit { get; init; }

    /// <summary>Counted from when it began to run.</summary>
    [Id(43)] public DateTimeOffset? RunsUntil { get; init; }

    [Id(44)] public bool WakeOnCall { get; init; } = true;

    /// <summary>Never runs: its machine is a snapshot that others begin with.</summary>
    [Id(45)] public bool Sealed { get; init; }

    /// <summary>Paused by its host, not by its owner: it is woken by any call, and by itself if something was running in it.</summary>
    [Id(46)] public bool ToBeWoken { get; init; }

    /// <summary>What is saved of its machine is the disk alone.</summary>
    [Id(47)] public bool DiskOnly { get; init; }

    [Id(48)] public SessionNeeds Needs { get; init; } = SessionNeeds.Nothing;

    [Id(60)] public EgressDocument Egress { get; init; } = new();

    public DateTimeOffset ExpiresAt => CreatedAt + MaxLifetime;

    public bool IsFinal => State is SessionState.Terminated or SessionState.Failed;

    public bool IsTransitional => State is SessionState.Creating or SessionState.Pausing or SessionState.Resuming;

    public SessionInfo ToInfo(DateTimeOffset lastActivity) => new()
    {
        Id = Id,
        Tenant = Tenant,
        State = State,
        Cause = Cause,
        Template = Template,
        TemplateVersion = TemplateVersion,
        Backend = Backend ?? RequestedBackend,
        Accelerator = Accelerator,
        Vcpus = Vcpus,
        MemoryMiB = MemoryMiB,
        DiskMiB = DiskMiB,
        HostId = HostId,
        VmId = State is SessionState.Running or SessionState.Pausing ? VmId : null,
        Generation = Generation,
        StartMethod = StartMethod,
        StartDuration = StartDuration,
        CreatedAt = CreatedAt,
        StateChangedAt = StateChangedAt,
        LastActivityAt = lastActivity,
        ExpiresAt = ExpiresAt,
        IdleTimeout = IdleTimeout,
        Metadata = Metadata,
        Recoveries = Recoveries,
        Warnings = Warnings,
        IdleAction = IdleAction,
        Checkpoints = Policy,
        Origin = Origin,
        RunLimit = RunLimit,
        RunsUntil = State == SessionState.Running ? RunsUntil : null,
        WakeOnCall = WakeOnCall,
        Sealed = Sealed,
    };
}

/// <summary>A context that the session remembers, so that it can be made again after a recovery.</summary>
[GenerateSerializer, Alias("sandbox.state.context"), Immutable]
internal sealed record ContextDocument
{
    [Id(0)] public string Id { get; init; } = "";

    [Id(1)] public string Language { get; init; } = "";

    [Id(2)] public string? Cwd { get; init; }

    [Id(3)] public string? User { get; init; }

    [Id(4)] public Dictionary<string, string> Env { get; init; } = [];

    /// <summary>The session's own, for code that names no context.</summary>
    [Id(5)] public bool IsDefault { get; init; }

    /// <summary>Generation of the microVM that has it.</summary>
    [Id(6)] public long Generation { get; init; }
}
