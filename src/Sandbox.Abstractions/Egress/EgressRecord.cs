namespace Sandbox.Abstractions;

/// <summary>One line of a session's egress log. Holds no body, no header value and no secret.</summary>
[GenerateSerializer, Alias("sandbox.egress-record"), Immutable]
public sealed record EgressRecord
{
    /// <summary>Number in the session's log, from 1 without a gap.</summary>
    [Id(0)] public long Seq { get; init; }

    /// <summary>When (UTC).</summary>
    [Id(1)] public DateTimeOffset At { get; init; }

    /// <summary>What it is about.</summary>
    [Id(2)] public required EgressRecordKind Kind { get; init; }

    /// <summary>What became of it.</summary>
    [Id(3)] public required EgressOutcome Outcome { get; init; }

    /// <summary>Host name, where there was one. At most 253 characters.</summary>
    [Id(4)] public string? Host { get; init; }

    /// <summary>Address, where there was one.</summary>
    [Id(5)] public string? Address { get; init; }

    /// <summary>Port.</summary>
    [Id(6)] public int? Port { get; init; }

    /// <summary>HTTP method.</summary>
    [Id(7)] public string? Method { get; init; }

    /// <summary>Path without the query, at most 1024 characters.</summary>
    [Id(8)] public string? Path { get; init; }

    /// <summary>Status of the response, where one came.</summary>
    [Id(9)] public int? Status { get; init; }

    /// <summary>For people: why.</summary>
    [Id(10)] public string? Reason { get; init; }

    /// <summary>What settled it: <c>rule 3</c>, <c>preset pip</c>, <c>unmatched</c>, <c>built-in</c>, <c>auditor</c>.</summary>
    [Id(11)] public string? By { get; init; }

    /// <summary>Bytes that the guest sent.</summary>
    [Id(12)] public long BytesUp { get; init; }

    /// <summary>Bytes that the guest got.</summary>
    [Id(13)] public long BytesDown { get; init; }

    /// <summary>How long it took.</summary>
    [Id(14)] public TimeSpan? Duration { get; init; }

    /// <summary>Names of the secrets that were put in for placeholders.</summary>
    [Id(15)] public IReadOnlyList<string> Secrets { get; init; } = [];

    /// <summary>How many equal ones this line stands for, where a flood was thinned. 1 otherwise.</summary>
    [Id(16)] public long Count { get; init; } = 1;

    /// <summary>The generation of the session that it comes from.</summary>
    [Id(17)] public long Generation { get; init; }
}

/// <summary>What a line of the egress log is about.</summary>
[GenerateSerializer, Alias("sandbox.egress-record-kind")]
public enum EgressRecordKind
{
    /// <summary>A DNS query.</summary>
    Dns = 0,

    /// <summary>A TCP connection that was not looked into; written when it ends, or when it is refused.</summary>
    Connection = 1,

    /// <summary>An HTTP request of an intercepted connection.</summary>
    Request = 2,

    /// <summary>Packets that the firewall dropped.</summary>
    Drop = 3,

    /// <summary>The policy was changed.</summary>
    Policy = 4,
}

/// <summary>What became of traffic.</summary>
[GenerateSerializer, Alias("sandbox.egress-outcome")]
public enum EgressOutcome
{
    /// <summary>It passed.</summary>
    Allowed = 0,

    /// <summary>It was refused.</summary>
    Denied = 1,

    /// <summary>It passed because the policy is only tried out (<see cref="EgressMode.DryRun"/>); otherwise it would have been refused.</summary>
    WouldDeny = 2,

    /// <summary>It passed with parts taken out.</summary>
    Redacted = 3,

    /// <summary>Its owner was asked, and it was refused meanwhile.</summary>
    Asked = 4,

    /// <summary>It was allowed and failed: the other side did not answer, or its certificate was not good.</summary>
    Failed = 5,
}

/// <summary>Some lines of an egress log.</summary>
/// <param name="Records">In order.</param>
/// <param name="Next">Read on from here.</param>
/// <param name="First">The oldest line that is still kept.</param>
[GenerateSerializer, Alias("sandbox.egress-page"), Immutable]
public sealed record EgressPage([property: Id(0)] IReadOnlyList<EgressRecord> Records, [property: Id(1)] long Next, [property: Id(2)] long First);

/// <summary>Sums over the life of a session, kept over pauses and changes of host.</summary>
[GenerateSerializer, Alias("sandbox.egress-counters"), Immutable]
public sealed record EgressCounters
{
    /// <summary>Connections that passed without a look inside; those that were looked into count by request.</summary>
    [Id(0)] public long Connections { get; init; }

    /// <summary>Connections, queries and requests that were refused.</summary>
    [Id(1)] public long Denied { get; init; }

    /// <summary>HTTP requests seen.</summary>
    [Id(2)] public long Requests { get; init; }

    /// <summary>DNS queries.</summary>
    [Id(3)] public long DnsQueries { get; init; }

    /// <summary>Packets that the firewall dropped.</summary>
    [Id(4)] public long DroppedPackets { get; init; }

    /// <summary>Bytes that the guest sent.</summary>
    [Id(5)] public long BytesUp { get; init; }

    /// <summary>Bytes that the guest got.</summary>
    [Id(6)] public long BytesDown { get; init; }

    /// <summary>Adds two.</summary>
    public EgressCounters Plus(EgressCounters other)
    {
        ArgumentNullException.ThrowIfNull(other);
        return new EgressCounters
        {
            Connections = Connections + other.Connections,
            Denied = Denied + other.Denied,
            Requests = Requests + other.Requests,
            DnsQueries = DnsQueries + other.DnsQueries,
            DroppedPackets = DroppedPackets + other.DroppedPackets,
            BytesUp = BytesUp + other.BytesUp,
            BytesDown = BytesDown + other.BytesDown,
        };
    }
}
