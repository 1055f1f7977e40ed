namespace Sandbox.Client;

/// <summary>Deadlines of a <see cref="SandboxClient"/>.</summary>
public sealed class SandboxClientOptions
{
    /// <summary>How long one call to a grain may take before it counts as lost. Default 30 s.</summary>
    public TimeSpan CallTimeout { get; set; } = TimeSpan.FromSeconds(30);

    /// <summary>How long a call is repeated (with growing pauses) while the cluster or the session's host cannot be reached. Default 60 s.</summary>
    public TimeSpan RetryDeadline { get; set; } = TimeSpan.FromSeconds(60);

    /// <summary>How long a session may take until it runs, is paused, or its checkpoint is stored. Default 3 minutes.</summary>
    public TimeSpan StartDeadline { get; set; } = TimeSpan.FromMinutes(3);

    /// <summary>
    /// How long a reader of output waits for the live stream alone before it asks the log beside it. Default 1 ms: the log answers a waiting reader half a millisecond after an event, the stream, which is pulled, four
    /// milliseconds after it. Longer spares calls where many readers follow one execution.
    /// </summary>
    public TimeSpan StreamSilence { get; set; } = TimeSpan.FromMilliseconds(1);

    /// <summary>How often a reader of a paused session's output looks whether it has been resumed, and where. Default 1 s.</summary>
    public TimeSpan PausedPoll { get; set; } = TimeSpan.FromSeconds(1);
}
