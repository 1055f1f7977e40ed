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
