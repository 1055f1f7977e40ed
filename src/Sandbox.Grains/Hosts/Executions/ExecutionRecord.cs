namespace Sandbox.Grains.Hosts.Executions;

/// <summary>What a snapshot says of an execution that ran when it was taken: enough for another host to carry its output on.</summary>
internal sealed record ExecutionRecord
{
    /// <summary>Its id.</summary>
    public required string Id { get; init; }

    /// <summary>Its id inside the guest, which is another one once the execution has gone through a fork or a rollback.</summary>
    public required string GuestId { get; init; }

    /// <summary>The guest's number of the last event that is in the log.</summary>
    public required ulong GuestSeq { get; init; }

    /// <summary>Number of the last event of the log. Not the guest's: one of the guest's may have become none or two.</summary>
    public required long LogSeq { get; init; }

    /// <summary>Events kept so far.</summary>
    public required int Events { get; init; }

    /// <summary>When it started (UTC).</summary>
    public required DateTimeOffset StartedAt { get; init; }

    public TimeSpan? Timeout { get; init; }

    public TimeSpan Grace { get; init; }

    public bool IsCode { get; init; }

    public int MemoryMiB { get; init; }

    public long OutputLimit { get; init; }

    public long OutputBytes { get; init; }

    public long DroppedBytes { get; init; }

    /// <summary>Signals that callers sent.</summary>
    public IReadOnlyList<int> Signals { get; init; } = [];

    /// <summary>User whom it runs as; empty: the template's default user.</summary>
    public string User { get; init; } = "";

    public static ExecutionRecord Of(string id, string guestId, ulong guestSeq, long logSeq, int events, DateTimeOffset startedAt, ExecutionFacts facts) => new()
    {
        Id = id,
        GuestId = guestId,
        GuestSeq = guestSeq,
        LogSeq = logSeq,
        Events = events,
        StartedAt = startedAt,
        Timeout = facts.Timeout,
        Grace = facts.Grace,
        IsCode = facts.IsCode,
        MemoryMiB = facts.MemoryMiB,
        OutputLimit = facts.OutputLimit,
        OutputBytes = facts.OutputBytes,
        DroppedBytes = facts.DroppedBytes,
        Signals = facts.Signals,
        User = facts.User,
    };

    public ExecutionFacts ToFacts() => new()
    {
        Timeout = Timeout,
        Grace = Grace,
        IsCode = IsCode,
        MemoryMiB = MemoryMiB,
        OutputLimit = OutputLimit,
        OutputBytes = OutputBytes,
        DroppedBytes = DroppedBytes,
        Signals = Signals,
        User = User,
    };
}
