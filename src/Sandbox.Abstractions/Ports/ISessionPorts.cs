using Orleans.Concurrency;

namespace Sandbox.Abstractions;

/// <summary>TCP ports that programs inside a session listen on. Key: session id; the same grain as <see cref="ISessionGrain"/>.</summary>
[Alias("sandbox.ISessionPorts")]
public interface ISessionPorts : IGrainWithStringKey
{
    /// <summary>
    /// Connects to a port on the guest's loopback address. Resumes a paused session if the call may (see <see cref="WakeContext"/>) and counts as activity; the bytes that follow do not, so a caller that keeps a
    /// connection in use says so with <see cref="TouchAsync"/>.
    /// </summary>
    /// <param name="port">1 to 65535.</param>
    /// <returns>Key of the connection's <see cref="IPortGrain"/>.</returns>
    /// <exception cref="SandboxException">
    /// <see cref="SandboxErrorCode.NotFound"/>, field <c>port</c>: nobody listens there; <see cref="SandboxErrorCode.Conflict"/>: the session does not run and may not be woken;
    /// <see cref="SandboxErrorCode.ResourceExhausted"/>: it has 256 connections, the most there may be.
    /// </exception>
    [Alias("open"), AlwaysInterleave]
    Task<string> OpenPortAsync(int port);

    /// <summary>Says that the session is in use; resumes it if it is paused and the call may.</summary>
    [Alias("touch"), AlwaysInterleave]
    Task<SessionInfo> TouchAsync();
}

/// <summary>
/// One TCP connection into a guest. Key: <c>host/session/connection</c>; lives on the host's silo. It ends with its microVM (so with a pause), and when nobody has called it for 5 minutes.
/// </summary>
[Alias("sandbox.IPortGrain")]
public interface IPortGrain : IGrainWithStringKey
{
    /// <summary>Most bytes in one call.</summary>
    const int MaxChunkBytes = 64 * 1024;

    /// <summary>Most connections of one session at a time.</summary>
    const int MaxConnections = 256;

    /// <summary>What came from the guest; waits up to <paramref name="wait"/> (at most 20 s) for the first byte. One reader at a time.</summary>
    [Alias("read"), AlwaysInterleave]
    Task<PortChunk> ReadAsync(TimeSpan wait);

    /// <summary>Sends to the guest; waits while the guest does not take it, for 5 minutes at most: then the connection is given up. One writer at a time.</summary>
    /// <param name="data">At most <see cref="MaxChunkBytes"/>.</param>
    /// <param name="end">Nothing follows: the program reads an end of file.</param>
    /// <exception cref="SandboxException"><see cref="SandboxErrorCode.NotFound"/>: the connection has ended.</exception>
    [Alias("write"), AlwaysInterleave, ResponseTimeout("00:06:00")]
    Task WriteAsync(Immutable<byte[]> data, bool end);

    /// <summary>Ends it. Ending an ended one is no error.</summary>
    [Alias("close"), AlwaysInterleave]
    Task CloseAsync();
}

/// <summary>What was read of a connection.</summary>
/// <param name="Data">Bytes; none if the wait passed.</param>
/// <param name="End">The program sends no more.</param>
/// <param name="Reset">The connection is gone.</param>
[GenerateSerializer, Alias("sandbox.port-chunk"), Immutable]
public sealed record PortChunk([property: Id(0)] byte[] Data, [property: Id(1)] bool End, [property: Id(2)] bool Reset);
