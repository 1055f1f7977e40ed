using Orleans.Concurrency;

namespace Sandbox.Abstractions;

/// <summary>A template: which versions exist, on which hosts, with which sizes. Key: template id.</summary>
[Alias("sandbox.ITemplateGrain")]
public interface ITemplateGrain : IGrainWithStringKey
{
    /// <summary>The template.</summary>
    /// <exception cref="SandboxException"><see cref="SandboxErrorCode.NotFound"/>: no host has ever had it.</exception>
    [Alias("get"), AlwaysInterleave]
    Task<TemplateInfo> GetAsync();

    /// <summary>A host says which version it has.</summary>
    [Alias("report")]
    Task ReportAsync(string hostId, TemplateVersion version);
}

/// <summary>A template as users see it.</summary>
[GenerateSerializer, Alias("sandbox.template-info"), Immutable]
public sealed record TemplateInfo
{
    /// <summary>Template id.</summary>
    [Id(0)] public required string Id { get; init; }

    /// <summary>The newest version.</summary>
    [Id(1)] public required TemplateVersion Current { get; init; }

    /// <summary>Hosts that have the newest version.</summary>
    [Id(2)] public IReadOnlyList<string> Hosts { get; init; } = [];
}

/// <summary>One version of a template.</summary>
[GenerateSerializer, Alias("sandbox.template-version"), Immutable]
public sealed record TemplateVersion
{
    /// <summary>Content hash, 16 hex digits.</summary>
    [Id(0)] public required string Version { get; init; }

    /// <summary>When it was built (UTC).</summary>
    [Id(1)] public DateTimeOffset BuiltAt { get; init; }

    /// <summary>Default vCPUs.</summary>
    [Id(2)] public int Vcpus { get; init; }

    /// <summary>Default memory in MiB.</summary>
    [Id(3)] public int MemoryMiB { get; init; }

    /// <summary>Default disk in MiB.</summary>
    [Id(4)] public int DiskMiB { get; init; }

    /// <summary>User commands run as.</summary>
    [Id(5)] public string DefaultUser { get; init; } = "user";

    /// <summary>Default working directory.</summary>
    [Id(6)] public string DefaultDirectory { get; init; } = "/home/user";

    /// <summary>Languages of contexts.</summary>
    [Id(7)] public IReadOnlyList<string> Languages { get; init; } = [];
}
