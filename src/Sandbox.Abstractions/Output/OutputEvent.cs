namespace Sandbox.Abstractions;

/// <summary>What an output event is.</summary>
[GenerateSerializer, Alias("sandbox.output-kind")]
public enum OutputKind
{
    /// <summary>Bytes of standard output.</summary>
    Stdout = 1,

    /// <summary>Bytes of standard error.</summary>
    Stderr = 2,

    /// <summary>Bytes of a terminal.</summary>
    Pty = 3,

    /// <summary>A rich result of a context: <see cref="OutputEvent.Data"/> is a UTF-8 JSON <see cref="RichResultData"/>.</summary>
    Result = 4,

    /// <summary>An error that code raised: UTF-8 JSON <see cref="CodeErrorData"/>.</summary>
    CodeError = 5,

    /// <summary>Something the system has to say (output capped, recovered): UTF-8 text.</summary>
    Notice = 6,

    /// <summary>The last event: UTF-8 JSON <see cref="ExecutionExit"/>.</summary>
    Exit = 7,

    /// <summary>A file that the execution made or changed: UTF-8 JSON <see cref="ArtifactData"/>.</summary>
    Artifact = 8,
}

/// <summary>One event of an execution's output log.</summary>
/// <param name="Seq">1, 2, 3 … without gaps.</param>
/// <param name="Kind">What it is.</param>
/// <param name="Time">When the host had it (UTC).</param>
/// <param name="Data">Its bytes; see <see cref="OutputKind"/> for what they mean.</param>
[GenerateSerializer, Alias("sandbox.output-event"), Immutable]
public sealed record OutputEvent(
    [property: Id(0)] long Seq,
    [property: Id(1)] OutputKind Kind,
    [property: Id(2)] DateTimeOffset Time,
    [property: Id(3)] byte[] Data);

/// <summary>A rich result: MIME type to content. Text types as text; others as base64.</summary>
public sealed record RichResultData(Dictionary<string, string> Data, bool IsMain, int ExecutionCount);

/// <summary>A file that an execution created or changed. Size, type and hash are of the bytes that the host read, not what the guest says of them.</summary>
public sealed record ArtifactData
{
    /// <summary>Absolute path in the guest, as the guest chose it: escape it before showing it.</summary>
    public required string Path { get; init; }

    /// <summary>Size in bytes.</summary>
    public required long Size { get; init; }

    /// <summary>MIME type told by its first bytes; <c>application/octet-stream</c> where they tell nothing.</summary>
    public required string MimeType { get; init; }

    /// <summary>SHA-256 in lower-case hexadecimal; <see langword="null"/> where the file was not kept (see <see cref="Skipped"/>).</summary>
    public string? Sha256 { get; init; }

    /// <summary>Id in the artifact store, <c>art_</c> and 26 letters and digits; <see langword="null"/> where it is inline or was not kept.</summary>
    public string? Id { get; init; }

    /// <summary>The bytes in base64, where they are few.</summary>
    public string? Inline { get; init; }

    /// <summary>Why the bytes are not kept: too large, changed while it was read, could not be read.</summary>
    public string? Skipped { get; init; }
}

/// <summary>An error that code raised.</summary>
public sealed record CodeErrorData(string Name, string Value, string Traceback);

/// <summary>A page of an output log.</summary>
[GenerateSerializer, Alias("sandbox.output-page"), Immutable]
public sealed record OutputPage
{
    /// <summary>Events in order, from the one asked for.</summary>
    [Id(0)] public required IReadOnlyList<OutputEvent> Events { get; init; }

    /// <summary>Ask for this one next.</summary>
    [Id(1)] public required long NextSeq { get; init; }

    /// <summary>The exit event has been read: there will be no more.</summary>
    [Id(2)] public required bool Complete { get; init; }

    /// <summary>Its session is paused, or went on elsewhere: there will be no more here until it is resumed. Ask the session where the execution is now.</summary>
    [Id(3)] public bool Suspended { get; init; }
}

/// <summary>What the live stream of an execution carries: a run of consecutive events.</summary>
[GenerateSerializer, Alias("sandbox.output-batch"), Immutable]
public sealed record OutputBatch([property: Id(0)] IReadOnlyList<OutputEvent> Events);
