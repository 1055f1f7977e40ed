using Orleans.Concurrency;

namespace Sandbox.Abstractions;

/// <summary>What a session may reach outside, what it did, and who judges. Key: session id; served by the session's grain.</summary>
[Alias("sandbox.ISessionEgress")]
public interface ISessionEgress : IGrainWithStringKey
{
    /// <summary>The policy, and the sums so far.</summary>
    [Alias("get-egress"), AlwaysInterleave]
    Task<SessionEgress> GetEgressAsync();

    /// <summary>
    /// Puts another policy in the place of the present one. Stored first; when this returns, a session that runs is held to it. Connections that it permits go on, others are ended.
    /// </summary>
    /// <exception cref="SandboxException">
    /// <see cref="SandboxErrorCode.InvalidArgument"/>: the policy says which rule is wrong. <see cref="SandboxErrorCode.Unsupported"/>: the session's backend has no network. <see cref="SandboxErrorCode.Conflict"/>: the session has ended.
    /// </exception>
    [Alias("set-egress")]
    Task<SessionEgress> SetEgressAsync(EgressPolicy policy, string? idempotencyKey);

    /// <summary>Lines of the egress log from a number on; waits up to <paramref name="wait"/> (at most 20 s) for the first.</summary>
    /// <param name="from">First number wanted, from 1.</param>
    /// <param name="max">1 to 1000.</param>
    /// <param name="wait">How long.</param>
    [Alias("read-egress-log"), AlwaysInterleave]
    Task<EgressPage> ReadEgressLogAsync(long from, int max, TimeSpan wait);

    /// <summary>The smallest policy that lets through what the log says was, or would have been, denied, together with the present one.</summary>
    [Alias("suggest-egress"), AlwaysInterleave]
    Task<EgressSuggestion> SuggestEgressAsync();

    /// <summary>The owner's answer where an auditor asked: requests like it are allowed or denied from now on, for the life of the session. At most 256.</summary>
    [Alias("decide-egress")]
    Task<SessionEgress> DecideEgressAsync(EgressDecision decision);
}

/// <summary>A session's egress as its owner sees it.</summary>
[GenerateSerializer, Alias("sandbox.session-egress"), Immutable]
public sealed record SessionEgress
{
    /// <summary>The policy.</summary>
    [Id(0)] public required EgressPolicy Policy { get; init; }

    /// <summary>Rises with each change.</summary>
    [Id(1)] public long Version { get; init; }

    /// <summary>The session has a network that the policy governs; false: nothing is reachable whatever the policy says. Of a session that does not run: as when it last did.</summary>
    [Id(2)] public bool Network { get; init; }

    /// <summary>Sums over the session's life.</summary>
    [Id(3)] public EgressCounters Counters { get; init; } = new();

    /// <summary>What stands in for the secrets inside the session.</summary>
    [Id(4)] public IReadOnlyList<SecretPlaceholder> Placeholders { get; init; } = [];

    /// <summary>The owner's answers so far.</summary>
    [Id(5)] public IReadOnlyList<EgressDecision> Decisions { get; init; } = [];
}

/// <summary>What the inside of a session has in the place of a secret.</summary>
/// <param name="Name">The secret.</param>
/// <param name="Variable">Environment variable of executions that holds the placeholder.</param>
/// <param name="Placeholder">Worth nothing outside of the session's own traffic.</param>
[GenerateSerializer, Alias("sandbox.secret-placeholder"), Immutable]
public sealed record SecretPlaceholder([property: Id(0)] string Name, [property: Id(1)] string Variable, [property: Id(2)] string Placeholder);

/// <summary>An owner's answer.</summary>
/// <param name="Host">Host name, exact.</param>
/// <param name="Method">Method in capitals, or <see langword="null"/> for all.</param>
/// <param name="Path">Path, exact or ending in <c>*</c>, or <see langword="null"/> for all.</param>
/// <param name="Allow">Whether it may pass.</param>
[GenerateSerializer, Alias("sandbox.egress-decision"), Immutable]
public sealed record EgressDecision([property: Id(0)] string Host, [property: Id(1)] string? Method, [property: Id(2)] string? Path, [property: Id(3)] bool Allow);

/// <summary>A policy made of a log.</summary>
/// <param name="Policy">The present policy with what was missing.</param>
/// <param name="Reasons">For people: one line for each addition.</param>
[GenerateSerializer, Alias("sandbox.egress-suggestion"), Immutable]
public sealed record EgressSuggestion([property: Id(0)] EgressPolicy Policy, [property: Id(1)] IReadOnlyList<string> Reasons);
