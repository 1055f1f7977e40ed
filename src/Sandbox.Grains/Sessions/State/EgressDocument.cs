using Sandbox.Abstractions;

namespace Sandbox.Grains.Sessions.State;

/// <summary>What is stored of a session's egress.</summary>
[GenerateSerializer, Alias("sandbox.state.egress"), Immutable]
internal sealed record EgressDocument
{
    /// <summary>Lines that a log leaves out where a host was lost with an unknown number of them, so that no number is given twice.</summary>
    public const long Gap = 1_000_000;

    private const int MaxParts = 64;

    [Id(0)] public EgressPolicy Policy { get; init; } = EgressPolicy.Nothing;

    [Id(1)] public long Version { get; init; } = 1;

    /// <summary>Of every secret that the session ever had: its memory may still hold them.</summary>
    [Id(2)] public List<SecretPlaceholder> Placeholders { get; init; } = [];

    [Id(3)] public List<EgressDecision> Decisions { get; init; } = [];

    /// <summary>As of the last pause, or the last change of host.</summary>
    [Id(4)] public EgressMark Mark { get; init; } = new();

    /// <summary>Where the log is, oldest part first.</summary>
    [Id(5)] public List<EgressLogPart> Parts { get; init; } = [];

    /// <summary>The placeholders that the policy's secrets have.</summary>
    public IReadOnlyList<SecretPlaceholder> Active => [.. Placeholders.Where(p => Policy.Secrets.Contains(p.Name))];

    /// <summary>What a session that begins with this one's memory has: the policy and the placeholders, no history.</summary>
    public EgressDocument Inherited() => new() { Policy = Policy, Placeholders = Placeholders, Decisions = Decisions };

    /// <summary>On a host. One that was lost before may have written lines that nobody heard of.</summary>
    public EgressDocument OnHost(string hostId, bool lostHost)
    {
        if (Parts.Count > 0 && Parts[^1].HostId == hostId)
        {
            return this;
        }

        var next = lostHost && Parts.Count > 0 ? ((Mark.NextSeq / Gap) + 1) * Gap : Mark.NextSeq;
        return this with { Mark = Mark with { NextSeq = next }, Parts = [.. Parts.TakeLast(MaxParts - 1), new EgressLogPart(hostId, next)] };
    }
}

/// <summary>A part of an egress log.</summary>
/// <param name="HostId">Where it is.</param>
/// <param name="First">Its first line.</param>
[GenerateSerializer, Alias("sandbox.state.egress-log-part"), Immutable]
internal sealed record EgressLogPart([property: Id(0)] string HostId, [property: Id(1)] long First);
