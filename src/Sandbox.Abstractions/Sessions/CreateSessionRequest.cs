namespace Sandbox.Abstractions;

/// <summary>What a caller asks of a new session. Unset values take the template's defaults.</summary>
[GenerateSerializer, Alias("sandbox.create-session"), Immutable]
public sealed record CreateSessionRequest
{
    /// <summary>Template of a request that names none.</summary>
    public const string DefaultTemplate = "python";

    /// <summary>Template id, for example <c>python</c>.</summary>
    [Id(0)] public string Template { get; init; } = DefaultTemplate;

    /// <summary>Isolation backend by name; unset: the scheduler chooses.</summary>
    [Id(1)] public string? Backend { get; init; }

    /// <summary>Virtual CPUs, 1 to 32.</summary>
    [Id(2)] public int? Vcpus { get; init; }

    /// <summary>Memory in MiB, 128 to 65536.</summary>
    [Id(3)] public int? MemoryMiB { get; init; }

    /// <summary>Writable disk in MiB, 64 to 1048576.</summary>
    [Id(4)] public int? DiskMiB { get; init; }

    /// <summary>Do <see cref="IdleAction"/> after so long without activity (executions, input, file calls). 1 s to 30 days; unset: the server's default.</summary>
    [Id(5)] public TimeSpan? IdleTimeout { get; init; }

    /// <summary>End the session so long after its creation whatever it does. 1 s to 365 days; unset: the server's default.</summary>
    [Id(6)] public TimeSpan? MaxLifetime { get; init; }

    /// <summary>Environment of every execution. At most 256 entries, names <c>[A-Za-z_][A-Za-z0-9_]*</c>, 64 KiB in all.</summary>
    [Id(7)] public Dictionary<string, string> Env { get; init; } = [];

    /// <summary>Labels for the caller's own use. At most 64 entries, 16 KiB in all.</summary>
    [Id(8)] public Dictionary<string, string> Metadata { get; init; } = [];

    /// <summary>The code is not trusted at all: backends whose boundary is the host's own kernel are refused. Default true.</summary>
    [Id(9)] public bool Untrusted { get; init; } = true;

    /// <summary>What happens after <see cref="IdleTimeout"/>. Default: it is paused.</summary>
    [Id(10)] public IdleAction IdleAction { get; init; }

    /// <summary>When checkpoints are taken by themselves. Default: never (a pause is one in any case).</summary>
    [Id(11)] public CheckpointPolicy Checkpoints { get; init; } = new();

    /// <summary>Begin with the state of a checkpoint instead of a new machine. Template, sizes, backend and environment are then those of the checkpoint's session, and naming others is an error.</summary>
    [Id(12)] public CheckpointReference? From { get; init; }

    /// <summary>
    /// Do <see cref="IdleAction"/> so long after it began to run, whatever it does; <see cref="ISessionGrain.SetRunLimitAsync"/> gives it more, and a resume begins anew. 1 s to 30 days; unset: no such limit. With it,
    /// an unset <see cref="IdleTimeout"/> is as long as it may be.
    /// </summary>
    [Id(13)] public TimeSpan? RunLimit { get; init; }

    /// <summary>Calls that need the machine resume it when it is paused, unless they say otherwise (<see cref="WakeContext"/>). Default true; false: only <see cref="ISessionCheckpoints.ResumeAsync"/> does, and calls that say so.</summary>
    [Id(14)] public bool WakeOnCall { get; init; } = true;

    /// <summary>
    /// It is a saved state and never runs: paused from the beginning, there for others to be made from, with checkpoints of its own that outlive the session it was made <see cref="From"/>. Needs <see cref="From"/>.
    /// </summary>
    [Id(15)] public bool Sealed { get; init; }

    /// <summary>What it needs of its isolation. With <see cref="From"/> it adds to what the checkpoint's session needed.</summary>
    [Id(16)] public SessionNeeds Needs { get; init; } = SessionNeeds.Nothing;

    /// <summary>What it may reach outside; unset: the tenant's default, or with <see cref="From"/> what the checkpoint's session may. A policy alone does not ask for a network: <see cref="SessionNeeds.Network"/> does.</summary>
    [Id(17)] public EgressPolicy? Egress { get; init; }
}
