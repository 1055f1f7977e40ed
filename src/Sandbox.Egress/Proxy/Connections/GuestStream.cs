using System.Net.Sockets;

namespace Sandbox.Egress.Proxy.Connections;

/// <summary>A guest's connection as a stream: first the bytes that were peeked at, then what follows. Counts, and holds to the session's rate.</summary>
/// <param name="socket">The connection. Stays its owner's.</param>
/// <param name="first">What was read of it.</param>
/// <param name="traffic">The count.</param>
/// <param name="ended">The connection was ended by us: nobody waits any more until more may be moved.</param>
internal sealed class GuestStream(Socket socket, ReadOnlyMemory<byte> first, Traffic traffic, CancellationToken ended) : Stream
{
    private ReadOnlyMemory<byte> _first = first;

    public override bool CanRead => true;

    public override bool CanWrite => true;

    public override bool CanSeek => false;

    public override long Length => throw new NotSupportedException();

    public override long Position
    {
        get => throw new NotSupportedException();
        set => throw new NotSupportedException();
    }

    public override async ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken = default)
    {
        int count;
        if (_first.Length > 0)
        {
            count = Math.Min(_first.Length, buffer.Length);
            _first[..count].CopyTo(buffer);
            _first = _first[count..];
        }
        else
        {
            try
            {
                count = await socket.ReceiveAsync(buffer[..Math.Min(buffer.Length, traffic.Piece(isUp: true, buffer.Length))], SocketFlags.None, cancellationToken);
            }
            catch (Exception e) when (e is SocketException or ObjectDisposedException)
            {
                throw new IOException("The guest's connection broke off.", e);
            }
        }

        await traffic.AddAsync(isUp: true, count, ended);
        return count;
    }

    public override async ValueTask WriteAsync(ReadOnlyMemory<byte> buffer, CancellationToken cancellationToken = default)
    {
        while (buffer.Length > 0)
        {
            int count;
            try
            {
                count = await socket.SendAsync(buffer[..Math.Min(buffer.Length, traffic.Piece(isUp: false, buffer.Length))], SocketFlags.None, cancellationToken);
            }
            catch (Exception e) when (e is SocketException or ObjectDisposedException)
            {
                throw new IOException("The guest's connection broke off.", e);
            }

            buffer = buffer[count..];
            await traffic.AddAsync(isUp: false, count, ended);
        }
    }

    public override Task<int> ReadAsync(byte[] buffer, int offset, int count, CancellationToken cancellationToken) => ReadAsync(buffer.AsMemory(offset, count), cancellationToken).AsTask();

    public override Task WriteAsync(byte[] buffer, int offset, int count, CancellationToken cancellationToken) => WriteAsync(buffer.AsMemory(offset, count), cancellationToken).AsTask();

    public override Task FlushAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    public override void Flush()
    {
    }

    public override int Read(byte[] buffer, int offset, int count) => throw new NotSupportedException("Only asynchronously.");

    public override void Write(byte[] buffer, int offset, int count) => throw new NotSupportedException("Only asynchronously.");

    public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

    public override void SetLength(long value) => throw new NotSupportedException();
}
