namespace Sandbox.Output;

/// <summary>What a record of an output log is. The numbers are written to disk and never change their meaning.</summary>
public enum OutputRecordKind : byte
{
    /// <summary>Bytes of standard output.</summary>
    Stdout = 1,

    /// <summary>Bytes of standard error.</summary>
    Stderr = 2,

    /// <summary>Bytes of a terminal.</summary>
    Pty = 3,

    /// <summary>A rich result (a MIME bundle, encoded as the writer likes).</summary>
    Result = 4,

    /// <summary>An error that code raised.</summary>
    Error = 5,

    /// <summary>Something the system has to say: UTF-8 text.</summary>
    Notice = 6,

    /// <summary>How the execution ended: always the last record.</summary>
    Exit = 7,

    /// <summary>A file that the execution made. Its writer bounds them; the cap of output does not count them.</summary>
    Artifact = 8,
}

/// <summary>One record of an output log.</summary>
/// <param name="Seq">1, 2, 3 … without gaps.</param>
/// <param name="Kind">What it is.</param>
/// <param name="UnixMilliseconds">When the host had it: milliseconds since 1970 UTC.</param>
/// <param name="Data">Its bytes. Not to be written to.</param>
public sealed record OutputRecord(long Seq, OutputRecordKind Kind, long UnixMilliseconds, ReadOnlyMemory<byte> Data);

/// <summary>A record to be, without its number.</summary>
/// <param name="Kind">What it is.</param>
/// <param name="Data">Its bytes; at most <see cref="OutputLogOptions.MaxRecordBytes"/>.</param>
/// <param name="UnixMilliseconds">When it was; 0: now.</param>
public readonly record struct OutputEntry(OutputRecordKind Kind, ReadOnlyMemory<byte> Data, long UnixMilliseconds = 0);

/// <summary>How much output an execution made, and how much of it was kept.</summary>
/// <param name="KeptBytes">Bytes in the log (records of the first five kinds).</param>
/// <param name="DroppedBytes">Bytes beyond the cap: counted, not kept. Of a log that was opened again before its exit: those since then.</param>
/// <param name="Capped">The cap was reached; a notice in the log says where.</param>
public readonly record struct OutputTotals(long KeptBytes, long DroppedBytes, bool Capped);

/// <summary>A run of consecutive records.</summary>
public sealed record OutputPage
{
    /// <summary>The records, from the one asked for. Empty if there was none before the wait ended.</summary>
    public required IReadOnlyList<OutputRecord> Records { get; init; }

    /// <summary>Ask for this one next.</summary>
    public required long NextSeq { get; init; }

    /// <summary>The last record there was when the page was made, or 0.</summary>
    public required long LastSeq { get; init; }

    /// <summary>The log has its exit, and everything up to it has been read by whoever asks for <see cref="NextSeq"/> only: there is no more.</summary>
    public required bool Complete { get; init; }

    /// <summary>What was kept and dropped so far.</summary>
    public required OutputTotals Totals { get; init; }
}
