namespace Sandbox.Egress.Proxy.Http;

/// <summary>A body that is counted while it is read.</summary>
/// <param name="inner">The body.</param>
/// <param name="count">Gets the length of each piece.</param>
internal sealed class CountedBody(Stream inner, Action<int> count) : ReadOnlyStream
{
    public override async ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken = default)
    {
        var length = await inner.ReadAsync(buffer, cancellationToken);
        count(length);
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
