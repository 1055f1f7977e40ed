namespace Sandbox.Egress.Proxy.Http;

/// <summary>A body that is counted while it is read.</summary>
/// <param name="inner">The body.</param>
/// <param name="count">Gets the length of each piece.</param>
/// <param name="waits">Called once, when the first piece is not there yet.</param>
internal sealed class CountedBody(Stream inner, Action<int> count, Func<Task>? waits = null) : ReadOnlyStream
{
    private Func<Task>? _waits = waits;

    public override async ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken = default)
    {
        int length;
        if (_waits is { } waits)
        {
            _waits = null;
            var reading = inner.ReadAsync(buffer, cancellationToken).AsTask();
            if (!reading.IsCompleted)
            {
                await waits();
            }

            length = await reading;
        }
        else
        {
            length = await inner.ReadAsync(buffer, cancellationToken);
        }

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
