using Orleans.Concurrency;

namespace Sandbox.Abstractions;

/// <summary>The executions of a session. Key: session id.</summary>
[Alias("sandbox.ISessionExecutions")]
public interface ISessionExecutions : IGrainWithStringKey
{
    /// <summary>Starts an execution. Waits for a session that is being created or brought back.</summary>
    /// <param name="request">What to run; validated here.</param>
    /// <param name="idempotencyKey">The same key again returns the same execution and starts nothing.</param>
    [Alias("start"), AlwaysInterleave]
    Task<ExecutionInfo> StartExecutionAsync(ExecutionRequest request, string? idempotencyKey);

    /// <summary>One execution.</summary>
    [Alias("get"), AlwaysInterleave]
    Task<ExecutionInfo> GetExecutionAsync(string executionId);

    /// <summary>Executions, newest first; at most 1000. The index keeps the newest 1000 of a session.</summary>
    [Alias("list"), AlwaysInterleave]
    Task<IReadOnlyList<ExecutionInfo>> ListExecutionsAsync(int limit);

    /// <summary>Writes to standard input; at most 64 KiB a call. Waits while the guest's buffer is full.</summary>
    [Alias("stdin"), AlwaysInterleave]
    Task WriteStdinAsync(string executionId, ReadOnlyMemory<byte> data, bool endOfFile);

    /// <summary>Sends a signal (1 to 31) to the execution's process group.</summary>
    [Alias("signal"), AlwaysInterleave]
    Task SignalAsync(string executionId, int signal);

    /// <summary>Resizes the execution's terminal.</summary>
    [Alias("resize"), AlwaysInterleave]
    Task ResizeAsync(string executionId, TerminalSize size);
}
