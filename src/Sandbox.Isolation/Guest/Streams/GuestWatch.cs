using System.Threading.Channels;
using Sandbox.Guest.Protocol;
using Sandbox.Isolation.Guest.Validation;

namespace Sandbox.Isolation.Guest.Streams;

/// <summary>A watch: a bounded queue that drops the oldest events, and says how many, when its reader is slow.</summary>
internal sealed class GuestWatch : GuestStream, IGuestWatch
{
    private readonly Channel<WatchEvent> _events;
    private readonly Func<GuestWatch, ValueTask> _close;
    private ulong _lastSeq;
    private long _dropped;
    private int _disposed;

    public GuestWatch(Func<GuestWatch, ValueTask> close)
    {
        _close = close;
        var options = new BoundedChannelOptions(GuestLimits.MaxWatchQueue) { FullMode = BoundedChannelFullMode.DropOldest, SingleWriter = true };
        _events = Channel.CreateBounded<WatchEvent>(options, dropped => Interlocked.Add(ref _dropped, 1 + (long)dropped.Dropped));
    }

    /// <inheritdoc/>
    public IAsyncEnumerable<WatchEvent> Events => ReadAsync();

    /// <inheritdoc/>
    public override void Receive(Frame frame)
    {
        if (frame.BodyCase != Frame.BodyOneofCase.WatchEvent)
        {
            throw WrongKind(frame, "a watch");
        }

        var change = frame.WatchEvent;
        if (change.Seq != _lastSeq + 1)
        {
            throw new ProtocolException($"Change {change.Seq} of a watch where {_lastSeq + 1} is next.");
        }

        if (!Enum.IsDefined(change.Kind) || change.Kind == WatchEvent.Types.Kind.Unspecified || change.Dropped > uint.MaxValue)
        {
            throw new ProtocolException($"A change of kind {(int)change.Kind} after {change.Dropped} dropped ones.");
        }

        GuestText.RequirePath(change.Path, "A changed path");
        _lastSeq = change.Seq;
        _events.Writer.TryWrite(change);
    }

    /// <inheritdoc/>
    public override void Fail(Exception reason) => _events.Writer.TryComplete(reason);

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        if (Interlocked.Exchange(ref _disposed, 1) == 0)
        {
            _events.Writer.TryComplete();
            await _close(this).ConfigureAwait(false);
        }
    }

    private async IAsyncEnumerable<WatchEvent> ReadAsync([System.Runtime.CompilerServices.EnumeratorCancellation] CancellationToken cancellationToken = default)
    {
        await foreach (var change in _events.Reader.ReadAllAsync(cancellationToken).ConfigureAwait(false))
        {
            change.Dropped += (ulong)Interlocked.Exchange(ref _dropped, 0);
            yield return change;
        }
    }
}
