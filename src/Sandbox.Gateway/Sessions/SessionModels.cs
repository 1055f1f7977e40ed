using Sandbox.Abstractions;
using Sandbox.Gateway.Http;

namespace Sandbox.Gateway.Sessions;

/// <summary>Body of a create call. Everything is optional.</summary>
internal sealed record CreateSessionBody
{
    public string? Template { get; init; }

    public string? Backend { get; init; }

    public int? Vcpus { get; init; }

    public int? MemoryMiB { get; init; }

    public int? DiskMiB { get; init; }

    public TimeSpan? IdleTimeoutSeconds { get; init; }

    public TimeSpan? MaxLifetimeSeconds { get; init; }

    public Dictionary<string, string>? Env { get; init; }

    public Dictionary<string, string>? Metadata { get; init; }

    public bool? Untrusted { get; init; }

    public IdleAction? IdleAction { get; init; }

    public CheckpointPolicyModel? Checkpoints { get; init; }

    public CheckpointReferenceBody? From { get; init; }

    public TimeSpan? RunLimitSeconds { get; init; }

    public bool? WakeOnCall { get; init; }

    public bool? Sealed { get; init; }

    public SessionNeedsBody? Needs { get; init; }

    public EgressPolicy? Egress { get; init; }

    public CreateSessionRequest ToRequest() => new()
    {
        Template = Template ?? CreateSessionRequest.DefaultTemplate,
        Backend = Backend,
        Vcpus = Vcpus,
        MemoryMiB = MemoryMiB,
        DiskMiB = DiskMiB,
        IdleTimeout = IdleTimeoutSeconds,
        MaxLifetime = MaxLifetimeSeconds,
        Env = ApiJson.Texts("env", Env),
        Metadata = ApiJson.Texts("metadata", Metadata),
        Untrusted = Untrusted ?? true,
        IdleAction = IdleAction ?? Abstractions.IdleAction.Pause,
        Checkpoints = Checkpoints?.ToPolicy() ?? new CheckpointPolicy(),
        From = CheckedFrom(),
        RunLimit = RunLimitSeconds,
        WakeOnCall = WakeOnCall ?? true,
        Sealed = Sealed ?? false,
        Needs = CheckedNeeds(),
        Egress = Egress,
    };

    /// <summary>Who says what a session may reach wants it to have a network.</summary>
    private SessionNeeds CheckedNeeds()
    {
        var needs = Needs?.ToNeeds() ?? SessionNeeds.Nothing;
        return Egress is { Rules: not null, Presets: not null } egress && !egress.ReachesNothing() ? needs with { Network = true } : needs;
    }

    /// <summary>The grain cannot tell a template that was named from the default, so what a checkpoint brings along is refused here.</summary>
    private CheckpointReference? CheckedFrom()
    {
        if (From is null)
        {
            return null;
        }

        (string Name, object? Value)[] broughtAlong = [("template", Template), ("backend", Backend), ("vcpus", Vcpus), ("memoryMiB", MemoryMiB), ("diskMiB", DiskMiB), ("env", Env)];
        return broughtAlong.FirstOrDefault(b => b.Value is not null).Name is { } name
            ? throw SandboxException.Invalid(name, $"With 'from', '{name}' is that of the checkpoint's session; leave it out.")
            : From.ToReference();
    }
}

/// <summary>What a session needs of its isolation.</summary>
internal sealed record SessionNeedsBody
{
    public bool? MemorySnapshot { get; init; }

    public bool? Network { get; init; }

    public IsolationBoundary? Boundary { get; init; }

    public IReadOnlyList<DeviceNeedBody>? Devices { get; init; }

    public SessionNeeds ToNeeds() => new()
    {
        MemorySnapshot = MemorySnapshot ?? false,
        Network = Network ?? false,
        Boundary = Boundary,
        Devices = [.. (Devices ?? []).Select(d => new DeviceNeed(d?.Kind ?? "", d?.Count ?? 1))],
    };
}

/// <summary>Devices of one kind.</summary>
internal sealed record DeviceNeedBody(string? Kind, int? Count);

/// <summary>The checkpoint that a session begins with.</summary>
internal sealed record CheckpointReferenceBody
{
    public string? SessionId { get; init; }

    public string? CheckpointId { get; init; }

    public CheckpointReference ToReference() => new(
        SandboxIds.IsSession(SessionId) ? SessionId! : throw SandboxException.Invalid("from.sessionId", "'from.sessionId' must be a session's id (ses_…)."),
        SandboxIds.IsCheckpoint(CheckpointId) ? CheckpointId! : throw SandboxException.Invalid("from.checkpointId", "'from.checkpointId' must be the id of a checkpoint of that session (chk_…)."));
}

/// <summary>Body of a change of timeouts.</summary>
internal sealed record TimeoutsBody
{
    public TimeSpan? IdleTimeoutSeconds { get; init; }

    public TimeSpan? MaxLifetimeSeconds { get; init; }

    public TimeSpan? RunLimitSeconds { get; init; }
}

/// <summary>A session as the API shows it.</summary>
internal sealed record SessionModel(
    string Id, SessionState State, string? Cause, string Template, string? TemplateVersion, string? Backend, string? Accelerator, int Vcpus, int MemoryMiB, int DiskMiB, string? HostId,
    long Generation, string? StartMethod, TimeSpan? StartSeconds, DateTimeOffset CreatedAt, DateTimeOffset StateChangedAt, DateTimeOffset LastActivityAt, DateTimeOffset ExpiresAt,
    TimeSpan IdleTimeoutSeconds, IdleAction IdleAction, CheckpointPolicyModel Checkpoints, SessionOrigin? Origin, IReadOnlyDictionary<string, string> Metadata, IReadOnlyList<SessionRecovery> Recoveries, IReadOnlyList<string> Warnings,
    TimeSpan? RunLimitSeconds, DateTimeOffset? RunsUntil, bool WakeOnCall, bool Sealed)
{
    public static SessionModel From(SessionInfo s) => new(
        s.Id, s.State, s.Cause, s.Template, s.TemplateVersion, s.Backend, s.Accelerator, s.Vcpus, s.MemoryMiB, s.DiskMiB, s.HostId, s.Generation, s.StartMethod, s.StartDuration,
        s.CreatedAt, s.StateChangedAt, s.LastActivityAt, s.ExpiresAt, s.IdleTimeout, s.IdleAction, CheckpointPolicyModel.From(s.Checkpoints), s.Origin, s.Metadata, s.Recoveries, s.Warnings,
        s.RunLimit, s.RunsUntil, s.WakeOnCall, s.Sealed);
}
