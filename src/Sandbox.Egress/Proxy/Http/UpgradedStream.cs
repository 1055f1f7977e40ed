using Sandbox.Egress.Secrets;

namespace Sandbox.Egress.Proxy.Http;

/// <summary>
/// A WebSocket's bytes, counted. What comes back cannot have parts replaced, because frames state their lengths: where a secret is echoed in it the connection is broken off instead.
/// </summary>
/// <param name="inner">The other side, both ways.</param>
/// <param name="detector">Finds secrets in what comes back; unset: there are none.</param>
/// <param name="exchange">The request.</param>
internal sealed class UpgradedStream(Stream inner, IBodyRedactor? detector, Exchange exchange) : ReadOnlyStream
{
    private readonly byte[] _piece = detector is null ? [] : new byte[16 * 1024];

    /// <summary>What was given to the detector and has not come out of it.</summary>
    private readonly Queue<byte> _held = new();
    private byte[] _ready = [];
    private int _read;

    public override bool CanWrite => true;

    public override async ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken = default)
    {
        if (detector is null || buffer.IsEmpty)
        {
            var count = await inner.ReadAsync(buffer, cancellationToken);
            exchange.CountDown(count);
            return count;
        }

        while (_read == _ready.Length)
        {
            var count = await inner.ReadAsync(_piece, cancellationToken);
            exchange.CountDown(count);
            (_ready, _read) = (Check(_piece.AsSpan(0, count), count == 0 ? detector.Finish() : detector.Push(_piece.AsSpan(0, count))), 0);
            if (count == 0)
            {
                break;
            }
        }

        var length = Math.Min(_ready.Length - _read, buffer.Length);
        _ready.AsMemory(_read, length).CopyTo(buffer);
        _read += length;
        return length;
    }

    public override async ValueTask WriteAsync(ReadOnlyMemory<byte> buffer, CancellationToken cancellationToken = default)
    {
        await inner.WriteAsync(buffer, cancellationToken);
        exchange.CountUp(buffer.Length);
    }

    public override Task WriteAsync(byte[] buffer, int offset, int count, CancellationToken cancellationToken) => WriteAsync(buffer.AsMemory(offset, count), cancellationToken).AsTask();

    public override Task FlushAsync(CancellationToken cancellationToken) => inner.FlushAsync(cancellationToken);

    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            inner.Dispose();
        }

        base.Dispose(disposing);
    }

    private byte[] Check(ReadOnlySpan<byte> given, ReadOnlyMemory<byte> passed)
    {
        foreach (var b in given)
        {
            _held.Enqueue(b);
        }

        foreach (var b in passed.Span)
        {
            if (!_held.TryDequeue(out var own) || own != b)
            {
                throw new IOException("The other side echoed a secret in a WebSocket; the connection is broken off.");
            }
        }

        return passed.ToArray();
    }
}
