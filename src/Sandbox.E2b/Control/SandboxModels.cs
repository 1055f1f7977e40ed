using System.Text.Json.Serialization;
using Sandbox.Abstractions;
using Sandbox.E2b.Data;

namespace Sandbox.E2b.Control;

/// <summary>A sandbox as create, connect, resume and fork answer it: with its tokens.</summary>
internal sealed record SandboxModel(
    [property: JsonPropertyName("templateID")] string Template, [property: JsonPropertyName("sandboxID")] string Sandbox, [property: JsonPropertyName("clientID")] string Client,
    string EnvdVersion, string EnvdAccessToken, string TrafficAccessToken, string? Domain)
{
    /// <summary>E2B's field for a part of the id that is gone; it must be there.</summary>
    public const string ClientId = "sandbox";

    /// <summary>Opens every gate that the SDKs have on features: they compare it with 0.6.4 at most (e2b 2.51.0).</summary>
    public const string Version = "0.6.4";

    public static SandboxModel From(SessionInfo info, SandboxTokens tokens, E2bOptions options) => new(
        Labels.Get(info, Labels.Template) ?? info.Template, E2bIds.ToSandbox(info.Id), ClientId, Version, tokens.Envd(info.Id, info.Tenant), tokens.Traffic(info.Id, info.Tenant),
        options.Domain.Length > 0 ? options.Domain : null);
}

/// <summary>A sandbox as get and list answer it.</summary>
internal sealed record SandboxDetail
{
    [JsonPropertyName("templateID")]
    public required string Template { get; init; }

    [JsonPropertyName("sandboxID")]
    public required string Sandbox { get; init; }

    [JsonPropertyName("clientID")]
    public string Client { get; init; } = SandboxModel.ClientId;

    public required DateTimeOffset StartedAt { get; init; }

    public required DateTimeOffset EndAt { get; init; }

    public required int CpuCount { get; init; }

    [JsonPropertyName("memoryMB")]
    public required int MemoryMB { get; init; }

    [JsonPropertyName("diskSizeMB")]
    public required int DiskSizeMB { get; init; }

    public required string State { get; init; }

    public string EnvdVersion { get; init; } = SandboxModel.Version;

    public required Dictionary<string, string> Metadata { get; init; }

    public required LifecycleModel Lifecycle { get; init; }

    public string? Domain { get; init; }

    public bool AllowInternetAccess { get; init; }

    /// <summary>Only where one is asked for.</summary>
    public string? EnvdAccessToken { get; init; }

    public static SandboxDetail From(SessionInfo info, E2bOptions options) => new()
    {
        Template = Labels.Get(info, Labels.Template) ?? info.Template,
        Sandbox = E2bIds.ToSandbox(info.Id),
        StartedAt = info.CreatedAt,
        EndAt = info.RunsUntil ?? info.ExpiresAt,
        CpuCount = info.Vcpus,
        MemoryMB = info.MemoryMiB,
        DiskSizeMB = info.DiskMiB,
        State = StateOf(info),
        Metadata = Labels.Shown(info),
        Lifecycle = new LifecycleModel(info.IdleAction == IdleAction.Pause ? "pause" : "kill", info.IdleAction == IdleAction.Pause && info.WakeOnCall),
        Domain = options.Domain.Length > 0 ? options.Domain : null,
    };

    /// <summary>E2B has two states; what is on its way counts as what it is on its way from or to a caller's profit.</summary>
    public static string StateOf(SessionInfo info) => info.State == SessionState.Paused ? "paused" : "running";
}

/// <summary>What happens at the end of a sandbox's time.</summary>
internal sealed record LifecycleModel(string OnTimeout, bool AutoResume);

/// <summary>What a sandbox uses.</summary>
internal sealed record MetricModel(
    DateTimeOffset Timestamp, long TimestampUnix, int CpuCount, double CpuUsedPct, long MemUsed, long MemTotal, long MemCache, long DiskUsed, long DiskTotal);

/// <summary>A snapshot.</summary>
internal sealed record SnapshotModel([property: JsonPropertyName("snapshotID")] string Snapshot, IReadOnlyList<string> Names);

/// <summary>One fork: a sandbox, or why there is none.</summary>
internal sealed record ForkModel(SandboxModel? Sandbox, ForkError? Error);

/// <summary>Why a fork failed.</summary>
internal sealed record ForkError(int Code, string Message);
