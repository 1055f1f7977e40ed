using System.Buffers;
using System.IO.Pipelines;
using Google.Protobuf;
using Sandbox.Guest.Protocol;

namespace Sandbox.Isolation.Guest.Streams;

/// <summary>
/// A connection to a program. What comes is copied into a pipe, so that it costs what it weighs however small the frames are; the window bounds it. The stream stays known until the guest's last word on it
/// (see guest.proto), also after the host has given it up: what comes until then is checked and dropped.
/// </summary>
internal sealed class GuestPort(Func<Frame, CancellationToken, Task> send, Action<GuestPort> over) : GuestStream, IGuestPort
{
    /// <summary>Granting every few bytes would double the frames.</summary>
    private const int GrantAt = ProtocolLimits.PortWindow / 4;

    private readonly Pipe _received = new(new PipeOptions(pauseWriterThreshold: 0, useSynchronizationContext: false));
    private readonly SemaphoreSlim _writing = new(1, 1);
    private readonly Lock _lock = new();
    private TaskCompletionSource _mayWrite = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private Exception? _failure;
    private long _mayTake = ProtocolLimits.PortWindow;
    private long _maySend = ProtocolLimits.PortWindow;
    private int _ungranted;
    private bool _guestEnded;
    private bool _hostEnded;
    private bool _disposed;

    /// <inheritdoc/>
    public override void Receive(Frame frame)
    {
        switch (frame.BodyCase)
        {
            case Frame.BodyOneofCase.PortData when frame.PortData.Reset:
                Reset(frame.PortData);
                break;
            case Frame.BodyOneofCase.PortData:
                Take(frame.PortData);
                break;
            case Frame.BodyOneofCase.PortCredit:
                Grant(frame.PortCredit.Bytes);
                break;
            default:
                throw WrongKind(frame, "a connection to a port");
        }
    }

    /// <inheritdoc/>
    public override void Fail(Exception reason)
    {
        lock (_lock)
        {
            Break(reason, evenIfEnded: true);
        }
    }

    /// <inheritdoc/>
    public async ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken)
    {
        var result = await _received.Reader.ReadAsync(cancellationToken).ConfigureAwait(false);
        var n = (int)Math.Min(buffer.Length, result.Buffer.Length);
        result.Buffer.Slice(0, n).CopyTo(buffer.Span);
        _received.Reader.AdvanceTo(result.Buffer.GetPosition(n));
        await GrantAsync(n).ConfigureAwait(false);
        return n;
    }

    /// <inheritdoc/>
    public async ValueTask WriteAsync(ReadOnlyMemory<byte> data, bool end, CancellationToken cancellationToken)
    {
        await _writing.WaitAsync(cancellationToken).ConfigureAwait(false);
        try
        {
            while (data.Length > 0)
            {
                var n = await TakeCreditAsync(data.Length, cancellationToken).ConfigureAwait(false);
                try
                {
                    await send(new Frame { Stream = Id, PortData = new PortData { Data = ByteString.CopyFrom(data.Span[..n]) } }, cancellationToken).ConfigureAwait(false);
                }
                catch (OperationCanceledException)
                {
                    // It was not sent: what was to carry it is still there.
                    lock (_lock)
                    {
                        _maySend += n;
                    }

                    throw;
                }

                data = data[n..];
            }

            if (end)
            {
                lock (_lock)
                {
                    ThrowIfOver();
                    _hostEnded = true;
                }

                await send(new Frame { Stream = Id, PortData = new PortData { End = true } }, CancellationToken.None).ConfigureAwait(false);
            }
        }
        finally
        {
            _writing.Release();
        }
    }

    /// <inheritdoc/>
    public ValueTask DisposeAsync()
    {
        lock (_lock)
        {
            if (_disposed)
            {
                return ValueTask.CompletedTask;
            }

            // After both ends the program may still be reading; its agent sees to that alone.
            _disposed = true;
            var ended = _failure is not null || (_guestEnded && _hostEnded);
            Break(new GuestPortResetException("The host has closed the connection."), evenIfEnded: true);
            if (ended)
            {
                return ValueTask.CompletedTask;
            }
        }

        // Queued at once; nobody waits for it: a guest that does not read must not hold up who closes.
        _ = SendQuietlyAsync(new Frame { Stream = Id, PortData = new PortData { Reset = true } });
        return ValueTask.CompletedTask;
    }

    private void Take(PortData data)
    {
        lock (_lock)
        {
            if (_guestEnded)
            {
                throw new ProtocolException($"{data.Data.Length} bytes on stream {Id} after the end of its connection.");
            }

            if (data.Data.Length > ProtocolLimits.MaxPortDataBytes || data.Data.Length > _mayTake || (data.Data.IsEmpty && !data.End))
            {
                throw new ProtocolException($"{data.Data.Length} bytes of a connection to a port; allowed are 1 to {ProtocolLimits.MaxPortDataBytes}, and {_mayTake} by the credit it has.");
            }

            _mayTake -= data.Data.Length;
            _guestEnded = data.End;
            if (_failure is not null)
            {
                return;
            }

            data.Data.Span.CopyTo(_received.Writer.GetSpan(data.Data.Length));
            _received.Writer.Advance(data.Data.Length);
            if (data.End)
            {
                _received.Writer.Complete();
            }
            else
            {
                // Complete at once: the pipe never asks its writer to wait.
                _ = _received.Writer.FlushAsync(CancellationToken.None).AsTask();
            }
        }
    }

    private void Grant(uint bytes)
    {
        lock (_lock)
        {
            if (bytes == 0 || _maySend + bytes > ProtocolLimits.PortWindow)
            {
                throw new ProtocolException($"A credit of {bytes} bytes on stream {Id}, where {ProtocolLimits.PortWindow - _maySend} are under way.");
            }

            _maySend += bytes;
            Wake();
        }
    }

    private void Reset(PortData last)
    {
        if (!last.Data.IsEmpty || last.End)
        {
            throw new ProtocolException($"A reset with {last.Data.Length} bytes on stream {Id}.");
        }

        over(this);
        lock (_lock)
        {
            Break(new GuestPortResetException("The connection was reset by the guest."), evenIfEnded: false);
        }
    }

    private void Break(Exception reason, bool evenIfEnded)
    {
        if (_failure is null)
        {
            _failure = reason;
            if (!_guestEnded || evenIfEnded)
            {
                // Nothing happens where it was completed before: what is buffered is still read.
                _received.Writer.Complete(reason);
            }
        }

        Wake();
    }

    private void Wake()
    {
        _mayWrite.TrySetResult();
        _mayWrite = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
    }

    private void ThrowIfOver()
    {
        if (_failure is not null || _hostEnded)
        {
            throw _failure is GuestUnavailableException
                ? new GuestUnavailableException(_failure.Message, _failure)
                : new GuestPortResetException(_failure?.Message ?? "The end of the connection was sent already.");
        }
    }

    private async Task<int> TakeCreditAsync(int wanted, CancellationToken cancellationToken)
    {
        while (true)
        {
            Task changed;
            lock (_lock)
            {
                ThrowIfOver();
                if (_maySend > 0)
                {
                    var n = (int)Math.Min(Math.Min(wanted, _maySend), ProtocolLimits.MaxPortDataBytes);
                    _maySend -= n;
                    return n;
                }

                changed = _mayWrite.Task;
            }

            await changed.WaitAsync(cancellationToken).ConfigureAwait(false);
        }
    }

    private async ValueTask GrantAsync(int read)
    {
        int grant;
        lock (_lock)
        {
            _ungranted += read;
            if (_ungranted < GrantAt || _guestEnded || _failure is not null)
            {
                return;
            }

            (grant, _ungranted) = (_ungranted, 0);
            _mayTake += grant;
        }

        await SendQuietlyAsync(new Frame { Stream = Id, PortCredit = new PortCredit { Bytes = (uint)grant } }).ConfigureAwait(false);
    }

    private async Task SendQuietlyAsync(Frame frame)
    {
        try
        {
            await send(frame, CancellationToken.None).ConfigureAwait(false);
        }
        catch (IOException)
        {
            // The channel is gone, and the connection with it: its reader is told.
        }
    }
}
