namespace Sandbox.Isolation.Guest.Wire;

/// <summary>
/// The reading side of a byte channel: gives back first what a handshake read too much, reads ahead in blocks (a frame costs one system
/// call, not two), and remembers whether the channel has ended, which tells a cut from a breach.
/// </summary>
internal sealed class ReadAheadStream(Stream inner, ReadOnlyMemory<byte> first) : Stream
{
    private readonly byte[] _block = new byte[32 * 1024];
    private ReadOnlyMemory<byte> _ready = first;
    private long _received;

    /// <summary>Bytes that have come so far.</summary>
    public long Received => Interlocked.Read(ref _received);

    /// <summary>The channel has no more bytes to give.</summary>
    public bool Ended { get; private set; }

    public override bool CanRead => true;

    public override bool CanSeek => false;

    public override bool CanWrite => false;

    public override long Length => throw new NotSupportedException();

    public override long Position
    {
        get => throw new NotSupportedException();
        set => throw new NotSupportedException();
    }

    public override async ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken = default)
    {
        if (buffer.IsEmpty)
        {
            return 0;
        }

        if (_ready.IsEmpty)
        {
            // Large reads go straight to their place.
            var target = buffer.Length >= _block.Length ? buffer : _block;
            var got = await inner.ReadAsync(target, cancellationToken).ConfigureAwait(false);
            Interlocked.Add(ref _received, got);
            if (got == 0)
            {
                Ended = true;
            }

            if (got == 0 || buffer.Length >= _block.Length)
            {
                return got;
            }

            _ready = _block.AsMemory(0, got);
        }

        var count = Math.Min(buffer.Length, _ready.Length);
        _ready[..count].CopyTo(buffer);
        _ready = _ready[count..];
        return count;
    }

    public override Task<int> ReadAsync(byte[] buffer, int offset, int count, CancellationToken cancellationToken) =>
        ReadAsync(buffer.AsMemory(offset, count), cancellationToken).AsTask();

    public override int Read(byte[] buffer, int offset, int count) => throw new NotSupportedException();

    public override void Flush() => throw new NotSupportedException();

    public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

    public override void SetLength(long value) => throw new NotSupportedException();

    public override void Write(byte[] buffer, int offset, int count) => throw new NotSupportedException();
}
