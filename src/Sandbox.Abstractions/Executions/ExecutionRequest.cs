namespace Sandbox.Abstractions;

/// <summary>What to run. Exactly one of <see cref="Argv"/>, <see cref="Shell"/> and <see cref="Code"/> is set.</summary>
[GenerateSerializer, Alias("sandbox.execution-request"), Immutable]
public sealed record ExecutionRequest
{
    /// <summary>A program and its arguments, run without a shell. 1 to 4096 entries, 128 KiB in all.</summary>
    [Id(0)] public IReadOnlyList<string>? Argv { get; init; }

    /// <summary>A command line for <c>/bin/bash -l -c</c>. At most 128 KiB.</summary>
    [Id(1)] public string? Shell { get; init; }

    /// <summary>Source text for a context. At most 256 KiB.</summary>
    [Id(2)] public string? Code { get; init; }

    /// <summary>For code: the context; unset: the session's default context of <see cref="Language"/>, made when first needed.</summary>
    [Id(3)] public string? ContextId { get; init; }

    /// <summary>For code without a context: <c>python</c> (default), <c>javascript</c> or <c>bash</c>.</summary>
    [Id(4)] public string? Language { get; init; }

    /// <summary>Added to the session's environment.</summary>
    [Id(5)] public Dictionary<string, string> Env { get; init; } = [];

    /// <summary>Working directory; unset: the user's home, or the context's own.</summary>
    [Id(6)] public string? Cwd { get; init; }

    /// <summary>User inside the guest; unset: the template's default user.</summary>
    [Id(7)] public string? User { get; init; }

    /// <summary>End it after so long: SIGTERM (code: interrupt), then SIGKILL after <see cref="Grace"/>. Unset: no limit but the session's own.</summary>
    [Id(8)] public TimeSpan? Timeout { get; init; }

    /// <summary>Between SIGTERM and SIGKILL; unset: 2 s. At most 5 minutes.</summary>
    [Id(9)] public TimeSpan? Grace { get; init; }

    /// <summary>Run on a terminal of this size.</summary>
    [Id(10)] public TerminalSize? Pty { get; init; }

    /// <summary>Keep standard input open for <see cref="ISessionExecutions.WriteStdinAsync"/>; else it is empty. A terminal's is always open.</summary>
    [Id(11)] public bool OpenStdin { get; init; }

    /// <summary>Most output bytes to keep; what comes after is dropped, and said to be. Unset: the server's default (16 MiB).</summary>
    [Id(12)] public long? OutputLimitBytes { get; init; }

    /// <summary>Report files that appear or change under the working directory and <c>/tmp/artifacts</c> while it runs, as events of kind <see cref="OutputKind.Artifact"/> before its exit. Unset: for code, not for commands.</summary>
    [Id(13)] public bool? Artifacts { get; init; }

    /// <summary>The caller's own name for it, of no meaning here. 1 to 128 printable characters.</summary>
    [Id(14)] public string? Tag { get; init; }
}

/// <summary>Size of a terminal in characters, 1 to 1000 each.</summary>
[GenerateSerializer, Alias("sandbox.terminal-size"), Immutable]
public sealed record TerminalSize([property: Id(0)] int Columns, [property: Id(1)] int Rows);
