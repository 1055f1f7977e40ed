using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;
using Sandbox.Abstractions;

namespace Sandbox.Egress.Log;

/// <summary>Where a session's egress log is, and how much of it is kept.</summary>
public sealed record EgressLogOptions
{
    /// <summary>Directory of the session's own on the host; made if missing. <see langword="null"/>: in memory only.</summary>
    public string? Directory { get; init; }

    /// <summary>Most records that can be read. Default: 4096.</summary>
    public int Capacity { get; init; } = 4096;

    /// <summary>Most bytes of one of the two files, <c>egress.jsonl</c> and the older <c>egress.1.jsonl</c>. Default: 8 MiB.</summary>
    public long MaxFileBytes { get; init; } = 8 * 1024 * 1024;

    /// <summary>The generation of the session, for its records.</summary>
    public long Generation { get; init; }

    /// <summary>What a log of the same session on another host had come to. The files' own state is taken where it is further.</summary>
    public EgressLogState? Continues { get; init; }

    /// <summary>Clock.</summary>
    public TimeProvider Time { get; init; } = TimeProvider.System;

    /// <summary>For our own troubles.</summary>
    public ILogger Logger { get; init; } = NullLogger.Instance;
}

/// <summary>What a log has come to, for going on elsewhere.</summary>
/// <param name="NextSeq">Number of the next record.</param>
/// <param name="Counters">Sums.</param>
public sealed record EgressLogState(long NextSeq, EgressCounters Counters);
