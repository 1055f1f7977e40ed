using Orleans.Concurrency;

namespace Sandbox.Abstractions;

/// <summary>The warm pool of one template on one host. Key: <c>host/template</c>.</summary>
[Alias("sandbox.IWarmPoolGrain")]
public interface IWarmPoolGrain : IGrainWithStringKey
{
    /// <summary>The pool now.</summary>
    [Alias("get"), AlwaysInterleave]
    Task<WarmPoolReport> GetAsync();
}

/// <summary>What a warm pool has, wants and did since its host started.</summary>
[GenerateSerializer, Alias("sandbox.warm-pool-report"), Immutable]
public sealed record WarmPoolReport
{
    /// <summary>Host.</summary>
    [Id(0)] public required string HostId { get; init; }

    /// <summary>Template.</summary>
    [Id(1)] public required string Template { get; init; }

    /// <summary>Machines that wait.</summary>
    [Id(2)] public int Ready { get; init; }

    /// <summary>Machines that should wait, by the arrival rate, the bounds and the host's memory.</summary>
    [Id(3)] public int Target { get; init; }

    /// <summary>Sessions that were given a machine of the pool.</summary>
    [Id(4)] public long Hits { get; init; }

    /// <summary>Sessions that found it empty and were cloned or booted.</summary>
    [Id(5)] public long Misses { get; init; }

    /// <summary>New sessions in a minute, a moving average with a half-life of a minute.</summary>
    [Id(6)] public double ArrivalsPerMinute { get; init; }
}
