using Sandbox.Abstractions;

namespace Sandbox.Grains.Output;

/// <summary>The output logs of one host. What the actors need of a log store, and no more.</summary>
internal interface IOutputLogs
{
    /// <summary>Makes the log of a new execution.</summary>
    IOutputLog Create(string sessionId, string executionId);

    /// <summary>Finds a log, or <see langword="null"/>.</summary>
    IOutputLog? Find(string sessionId, string executionId);

    /// <summary>Executions of a session that have a log here.</summary>
    IReadOnlyList<string> List(string sessionId);

    /// <summary>Removes all logs of a session.</summary>
    Task DeleteSessionAsync(string sessionId);

    /// <summary>Removes logs that nothing was written to for so long.</summary>
    void Sweep(TimeSpan age);
}

/// <summary>One execution's log: events 1, 2, 3 …, the last of which is its exit.</summary>
internal interface IOutputLog
{
    /// <summary>The exit is in the log.</summary>
    bool IsComplete { get; }

    /// <summary>The exit, once it is in the log.</summary>
    ExecutionExit? Exit { get; }

    /// <summary>Number of the last event, or 0.</summary>
    long LastSeq { get; }

    /// <summary>Appends events and gives them their numbers. They are safe from the death of this process when the call returns.</summary>
    IReadOnlyList<OutputEvent> Append(IReadOnlyList<PendingEvent> events);

    /// <summary>Reads from a number on; waits for the first event if there is none yet and the log is not complete.</summary>
    Task<OutputPage> ReadAsync(long fromSeq, int maxBytes, TimeSpan wait, CancellationToken cancellationToken);
}

/// <summary>An event without its number.</summary>
internal readonly record struct PendingEvent(OutputKind Kind, DateTimeOffset Time, byte[] Data);
