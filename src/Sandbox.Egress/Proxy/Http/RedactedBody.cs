using Sandbox.Egress.Secrets;

namespace Sandbox.Egress.Proxy.Http;

/// <summary>A response's body without echoes of secrets, taken out while it streams.</summary>
/// <param name="inner">The body, not compressed.</param>
/// <param name="redactor">Takes them out.</param>
internal sealed class RedactedBody(Stream inner, IBodyRedactor redactor) : ReadOnlyStream
{
    private readonly byte[] _piece = new byte[16 * 1024];
    private ReadOnlyMemory<byte> _ready;
    private bool _isOver;

    public override async ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken = default)
    {
        if (buffer.IsEmpty)
        {
            return 0;
        }

        while (_ready.IsEmpty && !_isOver)
        {
            var count = await inner.ReadAsync(_piece, cancellationToken);
            _isOver = count == 0;
            _ready = _isOver ? redactor.Finish() : redactor.Push(_piece.AsSpan(0, count));
        }

        var length = Math.Min(_ready.Length, buffer.Length);
        _ready[..length].CopyTo(buffer);
        _ready = _ready[length..];
        return length;
    }

    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            inner.Dispose();
        }

        base.Dispose(disposing);
    }
}
