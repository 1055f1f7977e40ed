namespace Sandbox.Isolation.Guest;

/// <summary>
/// One TCP connection to a program in a guest. The guest can make the host hold at most <see cref="Sandbox.Guest.Protocol.ProtocolLimits.PortWindow"/> bytes that nobody reads; one that sends more has broken the
/// protocol and loses its channel. It ends with the channel: it is not carried over a cut, nor into a saved machine. Disposing resets what has not ended on both sides.
/// </summary>
public interface IGuestPort : IAsyncDisposable
{
    /// <summary>What the program sent; waits for the first byte. One reader. A call that was cancelled has taken nothing.</summary>
    /// <returns>How many bytes; 0: the program sends no more.</returns>
    /// <exception cref="GuestPortResetException">The connection is gone.</exception>
    /// <exception cref="GuestUnavailableException">The channel is gone.</exception>
    ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken);

    /// <summary>Sends to the program; waits while it does not take it. One writer. Of a call that was cancelled any part may have been sent.</summary>
    /// <param name="data">Bytes.</param>
    /// <param name="end">Nothing follows: the program reads an end of file.</param>
    /// <param name="cancellationToken">Gives up.</param>
    /// <exception cref="GuestPortResetException">The connection is gone, or its end was sent before.</exception>
    /// <exception cref="GuestUnavailableException">The channel is gone.</exception>
    ValueTask WriteAsync(ReadOnlyMemory<byte> data, bool end, CancellationToken cancellationToken);
}

/// <summary>A connection to a program in a guest was reset, by the program, the agent or the host.</summary>
public sealed class GuestPortResetException(string message) : IOException(message);
