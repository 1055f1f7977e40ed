using Sandbox.Guest.Protocol;

namespace Sandbox.Isolation.Guest;

/// <summary>
/// The agent inside a microVM, as the host sees it. Everything it returns has been checked against <see cref="ProtocolLimits"/>,
/// and is still hostile: paths, names and contents are whatever the guest likes.
/// </summary>
public interface IGuest
{
    /// <summary>Completes, never faults, when the channel is gone for good; the string says why.</summary>
    Task<string> Closed { get; }

    /// <summary>Sends one unary request (anything but <see cref="StartExecution"/>, <see cref="Watch"/> and <see cref="OpenPort"/>) and returns its answer.</summary>
    /// <exception cref="GuestException">The guest answered with an error.</exception>
    /// <exception cref="GuestUnavailableException">The channel is closed, or the guest did not answer before the deadline.</exception>
    Task<Response> RequestAsync(Request request, CancellationToken cancellationToken);

    /// <summary>Starts an execution. Events arrive on <see cref="IGuestExecution.Events"/>; each must be acknowledged once it is safe.</summary>
    /// <exception cref="GuestException">The guest refused (no such user, unknown context, no such directory, too many).</exception>
    /// <exception cref="GuestUnavailableException">The channel is closed, or the guest did not answer.</exception>
    Task<IGuestExecution> StartExecutionAsync(StartExecution request, CancellationToken cancellationToken);

    /// <summary>Watches a directory until disposed.</summary>
    Task<IGuestWatch> WatchAsync(Watch request, CancellationToken cancellationToken);

    /// <summary>Connects to a TCP port on the guest's own loopback address.</summary>
    /// <param name="port">1 to 65535.</param>
    /// <param name="cancellationToken">Gives up.</param>
    /// <exception cref="GuestException"><see cref="ErrorCode.NotFound"/>: nobody listens; <see cref="ErrorCode.ResourceExhausted"/>: too many connections.</exception>
    /// <exception cref="GuestUnavailableException">The channel is closed, or the guest did not answer.</exception>
    Task<IGuestPort> OpenPortAsync(int port, CancellationToken cancellationToken);
}

/// <summary>One execution inside a guest.</summary>
public interface IGuestExecution
{
    /// <summary>The execution's id as the host chose it.</summary>
    string ExecutionId { get; }

    /// <summary>Process id inside the guest (a context's interpreter for code).</summary>
    uint Pid { get; }

    /// <summary>
    /// Events in order, without gaps or repeats whatever the channel did. Ends after <see cref="Exited"/>;
    /// fails with <see cref="GuestUnavailableException"/> if the guest is lost first. One reader.
    /// </summary>
    IAsyncEnumerable<ExecutionEvent> Events { get; }

    /// <summary>Says that every event up to and including <paramref name="seq"/> is safe; lets the guest forget it and send more.</summary>
    ValueTask AcknowledgeAsync(ulong seq, CancellationToken cancellationToken);

    /// <summary>Writes to standard input. Waits while the guest's buffer is full.</summary>
    /// <exception cref="GuestException">Standard input is not open (<see cref="ErrorCode.Conflict"/>).</exception>
    ValueTask WriteStdinAsync(ReadOnlyMemory<byte> data, bool endOfFile, CancellationToken cancellationToken);

    /// <summary>Sends a signal to the execution's whole process group.</summary>
    ValueTask SignalAsync(int signal, CancellationToken cancellationToken);

    /// <summary>Resizes the terminal of an execution that has one.</summary>
    ValueTask ResizeAsync(uint columns, uint rows, CancellationToken cancellationToken);
}

/// <summary>One directory watch.</summary>
public interface IGuestWatch : IAsyncDisposable
{
    /// <summary>Changes in order; <see cref="WatchEvent.Dropped"/> says how many were lost before one.</summary>
    IAsyncEnumerable<WatchEvent> Events { get; }
}

/// <summary>The guest answered a request with an error.</summary>
public sealed class GuestException(Error error) : Exception(error.Message)
{
    /// <summary>What kind of error.</summary>
    public ErrorCode Code { get; } = error.Code;

    /// <summary>The guest kernel's errno, or 0.</summary>
    public int Errno { get; } = error.Errno;
}

/// <summary>The guest cannot be reached: its channel closed, it broke the protocol, or it did not answer in time.</summary>
public sealed class GuestUnavailableException(string message, Exception? inner = null) : IOException(message, inner);
