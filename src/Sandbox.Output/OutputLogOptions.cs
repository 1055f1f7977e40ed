namespace Sandbox.Output;

/// <summary>What an appended record survives.</summary>
public enum OutputDurability
{
    /// <summary>The death of the process: the bytes are with the kernel when an append returns. The default.</summary>
    ProcessDeath = 0,

    /// <summary>A loss of power as well: bytes and directory entries are on the disk when an append returns, and no reader sees them before.</summary>
    PowerLoss = 1,
}

/// <summary>Sizes and habits of an <see cref="OutputLogStore"/>.</summary>
public sealed record OutputLogOptions
{
    /// <summary>Most output bytes kept for one execution (kinds stdout to error). Default 16 MiB. What is beyond is counted and dropped.</summary>
    public long MaxOutputBytes { get; init; } = 16L * 1024 * 1024;

    /// <summary>Most output records kept for one execution: bounds what a flood of tiny writes costs on disk. Default 500,000.</summary>
    public long MaxOutputRecords { get; init; } = 500_000;

    /// <summary>Size at which a segment is finished and the next begun, in bytes. Default 4 MiB.</summary>
    public int SegmentBytes { get; init; } = 4 * 1024 * 1024;

    /// <summary>Largest record, in bytes of data. Default 1 MiB.</summary>
    public int MaxRecordBytes { get; init; } = 1024 * 1024;

    /// <summary>What an appended record survives.</summary>
    public OutputDurability Durability { get; init; }

    /// <summary>Most files kept open between uses. Default 128. Opened again when needed.</summary>
    public int MaxOpenFiles { get; init; } = 128;

    /// <summary>Most logs whose index is kept in memory while nobody uses them. Default 512.</summary>
    public int MaxCachedLogs { get; init; } = 512;

    /// <summary>The clock of records that name no time.</summary>
    public TimeProvider TimeProvider { get; init; } = TimeProvider.System;
}
