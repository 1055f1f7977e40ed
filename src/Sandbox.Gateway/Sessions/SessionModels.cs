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

    public CreateSessionRequest ToRequest() => new()
    {
        Template = Template ?? "python",
        Backend = Backend,
        Vcpus = Vcpus,
        MemoryMiB = MemoryMiB,
        DiskMiB = DiskMiB,
        IdleTimeout = IdleTimeoutSeconds,
        MaxLifetime = MaxLifetimeSeconds,
        Env = ApiJson.Texts("env", Env),
        Metadata = ApiJson.Texts("metadata", Metadata),
        Untrusted = Untrusted ?? true,
    };
}

/// <summary>Body of a change of timeouts.</summary>
internal sealed record TimeoutsBody
{
    public TimeSpan? IdleTimeoutSeconds { get; init; }

    public TimeSpan? MaxLifetimeSeconds { get; init; }
}

/// <summary>A session as the API shows it.</summary>
internal sealed record SessionModel(
    string Id, SessionState State, string? Cause, string Template, string? TemplateVersion, string? Backend, string? Accelerator, int Vcpus, int MemoryMiB, int DiskMiB, string? HostId,
    long Generation, string? StartMethod, TimeSpan? StartSeconds, DateTimeOffset CreatedAt, DateTimeOffset StateChangedAt, DateTimeOffset LastActivityAt, DateTimeOffset ExpiresAt,
    TimeSpan IdleTimeoutSeconds, IReadOnlyDictionary<string, string> Metadata, IReadOnlyList<SessionRecovery> Recoveries, IReadOnlyList<string> Warnings)
{
    public static SessionModel From(SessionInfo s) => new(
        s.Id, s.State, s.Cause, s.Template, s.TemplateVersion, s.Backend, s.Accelerator, s.Vcpus, s.MemoryMiB, s.DiskMiB, s.HostId, s.Generation, s.StartMethod, s.StartDuration,
        s.CreatedAt, s.StateChangedAt, s.LastActivityAt, s.ExpiresAt, s.IdleTimeout, s.Metadata, s.Recoveries, s.Warnings);
}
