using System.Buffers;
using System.Net.Sockets;

namespace Sandbox.Egress.Proxy.Connections;

/// <summary>
/// Moves bytes between two sockets until both sides have ended. An end of one side is passed on and leaves the other direction as it is; a reset is passed on as a reset. A direction holds a buffer only while bytes are moving, and
/// nothing is allocated for a read.
/// </summary>
internal static class Splice
{
    private const int BufferBytes = 128 * 1024;

    /// <summary>Moves. Returns when both directions have ended.</summary>
    /// <exception cref="SocketException">One side broke off; both have been reset.</exception>
    /// <exception cref="ObjectDisposedException">The connection was ended by us.</exception>
    public static async Task RunAsync(Socket guest, Socket upstream, ReadOnlyMemory<byte> first, Traffic traffic, CancellationToken cancellationToken)
    {
        var up = MoveAsync(guest, upstream, first, isUp: true, traffic, cancellationToken);
        var down = MoveAsync(upstream, guest, default, isUp: false, traffic, cancellationToken);
        if (await Task.WhenAny(up, down) is { IsCompletedSuccessfully: false })
        {
            // Ends the other direction too, whatever it waits for.
            Reset(guest);
            Reset(upstream);
        }

        try
        {
            await Task.WhenAll(up, down);
        }
        catch
        {
            Reset(guest);
            Reset(upstream);
            throw;
        }
    }

    /// <summary>Closes a socket so that the other side sees that something went wrong. Never fails.</summary>
    public static void Reset(Socket socket)
    {
        try
        {
            socket.LingerState = new LingerOption(true, 0);
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException)
        {
            // Closed already.
        }

        socket.Dispose();
    }

    private static async Task MoveAsync(Socket from, Socket to, ReadOnlyMemory<byte> first, bool isUp, Traffic traffic, CancellationToken cancellationToken)
    {
        if (first.Length > 0)
        {
            await SendAsync(to, first, cancellationToken);
            await traffic.AddAsync(isUp, first.Length, cancellationToken);
        }

        while (true)
        {
            if (from.Available == 0)
            {
                // Nobody knows for how long: wait without a buffer.
                await from.ReceiveAsync(Memory<byte>.Empty, SocketFlags.None, cancellationToken);
            }

            var buffer = ArrayPool<byte>.Shared.Rent(BufferBytes);
            try
            {
                do
                {
                    var count = await from.ReceiveAsync(buffer.AsMemory(0, traffic.Piece(isUp, BufferBytes)), SocketFlags.None, cancellationToken);
                    if (count == 0)
                    {
                        to.Shutdown(SocketShutdown.Send);
                        return;
                    }

                    await SendAsync(to, buffer.AsMemory(0, count), cancellationToken);
                    await traffic.AddAsync(isUp, count, cancellationToken);
                }
                while (from.Available > 0);
            }
            finally
            {
                ArrayPool<byte>.Shared.Return(buffer);
            }
        }
    }

    private static async ValueTask SendAsync(Socket to, ReadOnlyMemory<byte> bytes, CancellationToken cancellationToken)
    {
        while (bytes.Length > 0)
        {
            bytes = bytes[await to.SendAsync(bytes, SocketFlags.None, cancellationToken)..];
        }
    }
}
