namespace Sandbox.Abstractions;

/// <summary>What a host holds a microVM's traffic to.</summary>
[GenerateSerializer, Alias("sandbox.microvm-egress"), Immutable]
public sealed record MicroVmEgress
{
    /// <summary>The policy.</summary>
    [Id(0)] public required EgressPolicy Policy { get; init; }

    /// <summary>The policy's version: an older one than is in force is not taken.</summary>
    [Id(1)] public long Version { get; init; }

    /// <summary>Placeholders of the policy's secrets.</summary>
    [Id(2)] public IReadOnlyList<SecretPlaceholder> Placeholders { get; init; } = [];

    /// <summary>Encrypted secrets and authority; <see langword="null"/> where the policy neither looks into traffic nor names secrets.</summary>
    [Id(3)] public EgressMaterial? Material { get; init; }

    /// <summary>The owner's answers.</summary>
    [Id(4)] public IReadOnlyList<EgressDecision> Decisions { get; init; } = [];

    /// <summary>Where the log of the session stands, if this host knows less.</summary>
    [Id(5)] public EgressMark Mark { get; init; } = new();
}

/// <summary>Where a session's egress stands.</summary>
[GenerateSerializer, Alias("sandbox.egress-mark"), Immutable]
public sealed record EgressMark
{
    /// <summary>Sums.</summary>
    [Id(0)] public EgressCounters Counters { get; init; } = new();

    /// <summary>Number of the next line.</summary>
    [Id(1)] public long NextSeq { get; init; } = 1;

    /// <summary>The machine has a network.</summary>
    [Id(2)] public bool Network { get; init; }
}
