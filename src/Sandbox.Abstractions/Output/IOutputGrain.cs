using Orleans.Concurrency;

namespace Sandbox.Abstractions;

/// <summary>
/// Reads one execution's output log. Key: <c>host/session/execution</c>; lives on the silo of the host whose disk holds the log.
/// The log is the truth; the Orleans stream (<see cref="OutputStreams"/>) is its live notification.
/// </summary>
[Alias("sandbox.IOutputGrain")]
public interface IOutputGrain : IGrainWithStringKey
{
    /// <summary>Most bytes of event data in one page.</summary>
    const int MaxPageBytes = 256 * 1024;

    /// <summary>Longest wait of one call. Short, so that a call to a dying silo fails soon.</summary>
    static readonly TimeSpan MaxWait = TimeSpan.FromSeconds(2);

    /// <summary>Reads events from <paramref name="fromSeq"/> on (1: all). If there are none yet, waits up to <paramref name="wait"/> for some.</summary>
    /// <exception cref="SandboxException"><see cref="SandboxErrorCode.NotFound"/>: no such log, or its retention has passed.</exception>
    [Alias("read"), AlwaysInterleave, ResponseTimeout("00:00:05")]
    Task<OutputPage> ReadAsync(long fromSeq, TimeSpan wait);
}

/// <summary>Names of the Orleans streams that carry live output.</summary>
public static class OutputStreams
{
    /// <summary>Name of the stream provider.</summary>
    public const string Provider = "output";

    /// <summary>Namespace; the key is the execution id; items are <see cref="OutputBatch"/>.</summary>
    public const string Namespace = "sandbox.output";

    /// <summary>Number of queues; silos and clients must name the same.</summary>
    public const int Queues = 4;
}
