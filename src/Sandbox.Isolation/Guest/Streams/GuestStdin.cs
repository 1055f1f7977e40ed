using System.Diagnostics.CodeAnalysis;
using Google.Protobuf;
using Sandbox.Guest.Protocol;

namespace Sandbox.Isolation.Guest.Streams;

/// <summary>
/// Standard input of one execution: what was sent and not yet credited is kept, at most <see cref="ProtocolLimits.MaxStdinUnderWay"/> bytes, to be
/// repeated after a cut. Writers wait for credit.
/// </summary>
[SuppressMessage("Design", "CA1001", Justification = "A SemaphoreSlim whose wait handle is never asked for holds nothing.")]
internal sealed class GuestStdin(bool open, Func<ExecutionInput, Task> send)
{
    /// <summary>Goes on in a restored machine: what had no credit is sent again by <see cref="RepeatAsync"/>.</summary>
    public GuestStdin(StdinMemo memo, Func<ExecutionInput, Task> send)
        : this(memo.Open, send)
    {
        (_sent, _credit, _endOfFile, _suspended, _creditMayRepeat) = (memo.Sent, memo.Credit, memo.EndOfFile, true, true);
        if (memo.UnderWay.Length > 0)
        {
            // In pieces of a size that a frame may have.
            var offset = memo.Sent - (ulong)memo.UnderWay.Length;
            foreach (var piece in memo.UnderWay.Chunk(ProtocolLimits.MaxOutputBytes))
            {
                _underWay.Enqueue((offset, piece));
                offset += (ulong)piece.Length;
            }
        }
    }

    private readonly Lock _lock = new();
    private readonly Queue<(ulong Offset, byte[] Data)> _underWay = new();
    private readonly SemaphoreSlim _callTurn = new(1, 1);
    private readonly SemaphoreSlim _wireTurn = new(1, 1);
    private TaskCompletionSource _changed = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private ulong _sent;
    private ulong _credit;
    private bool _open = open;
    private bool _endOfFile;
    private bool _creditMayRepeat;
    private bool _suspended;
    private Exception? _failure;

    /// <summary>Writes, waiting while the guest has not taken enough of what went before.</summary>
    public async ValueTask WriteAsync(ReadOnlyMemory<byte> data, bool endOfFile, CancellationToken cancellationToken)
    {
        await _callTurn.WaitAsync(cancellationToken).ConfigureAwait(false);
        try
        {
            ThrowUnlessOpen();
            if (data.IsEmpty && !endOfFile)
            {
                return;
            }

            do
            {
                var room = data.IsEmpty ? 0 : await RoomAsync(cancellationToken).ConfigureAwait(false);
                var piece = data[..Math.Min(Math.Min(room, ProtocolLimits.MaxOutputBytes), data.Length)];
                data = data[piece.Length..];
                await SendAsync(piece, endOfFile && data.IsEmpty, cancellationToken).ConfigureAwait(false);
            }
            while (!data.IsEmpty);
        }
        finally
        {
            _callTurn.Release();
        }
    }

    /// <summary>The guest has taken everything below <paramref name="offset"/>.</summary>
    /// <exception cref="ProtocolException">A credit that does not grow, or for more than was sent.</exception>
    public void Credit(ulong offset)
    {
        lock (_lock)
        {
            // The one repeated credit of a connection that was joined again tells what was lost on the way.
            var repeated = _creditMayRepeat && offset == _credit;
            _creditMayRepeat = false;
            if ((offset <= _credit && !repeated) || offset > _sent)
            {
                throw new ProtocolException($"A credit for {offset} bytes of standard input, where {_credit} were credited and {_sent} sent.");
            }

            _credit = offset;
            while (_underWay.TryPeek(out var first) && first.Offset + (ulong)first.Data.Length <= offset)
            {
                _underWay.Dequeue();
            }

            Signal();
        }
    }

    /// <summary>The process closed its end, or is gone: nothing more can be written and nothing needs to be repeated.</summary>
    public void Close()
    {
        lock (_lock)
        {
            _open = false;
            _underWay.Clear();
            Signal();
        }
    }

    /// <summary>The guest is lost: writers get <paramref name="reason"/>.</summary>
    public void Fail(Exception reason)
    {
        lock (_lock)
        {
            _failure ??= reason;
            Signal();
        }
    }

    /// <summary>
    /// The channel was cut: what is written from now on is only kept, until <see cref="RepeatAsync"/> has sent what may have been lost before it.
    /// Otherwise it could overtake that on the new channel.
    /// </summary>
    public void Suspend()
    {
        lock (_lock)
        {
            _suspended = true;
            _creditMayRepeat = true;
        }
    }

    /// <summary>Where it stands, for a host that restores this guest.</summary>
    public StdinMemo Remember()
    {
        lock (_lock)
        {
            // The first piece may be credited in part.
            var bytes = _underWay.SelectMany(p => p.Data).ToArray();
            var known = bytes.Length == 0 ? 0 : (int)Math.Min((ulong)bytes.Length, _sent - _credit);
            return new StdinMemo(_open, _sent, _credit, _endOfFile, bytes[^known..]);
        }
    }

    /// <summary>After a cut: sends again what was not credited.</summary>
    public async Task RepeatAsync()
    {
        await _wireTurn.WaitAsync().ConfigureAwait(false);
        try
        {
            List<StdinData> pieces = [];
            lock (_lock)
            {
                _suspended = false;
                foreach (var (offset, data) in _underWay)
                {
                    var skip = _credit > offset ? (int)(_credit - offset) : 0;
                    pieces.Add(new StdinData { Offset = offset + (ulong)skip, Data = ByteString.CopyFrom(data.AsSpan(skip)) });
                }

                if (_endOfFile)
                {
                    pieces.Add(new StdinData { Offset = _sent, Eof = true });
                }
            }

            foreach (var piece in pieces)
            {
                await send(new ExecutionInput { Stdin = piece }).ConfigureAwait(false);
            }
        }
        finally
        {
            _wireTurn.Release();
        }
    }

    private async ValueTask<int> RoomAsync(CancellationToken cancellationToken)
    {
        while (true)
        {
            Task changed;
            lock (_lock)
            {
                ThrowUnlessOpen();
                var room = ProtocolLimits.MaxStdinUnderWay - (int)(_sent - _credit);
                if (room > 0)
                {
                    return room;
                }

                changed = _changed.Task;
            }

            await changed.WaitAsync(cancellationToken).ConfigureAwait(false);
        }
    }

    private async Task SendAsync(ReadOnlyMemory<byte> piece, bool endOfFile, CancellationToken cancellationToken)
    {
        await _wireTurn.WaitAsync(cancellationToken).ConfigureAwait(false);
        Task sending;
        try
        {
            bool suspended;
            var input = new StdinData { Data = ByteString.CopyFrom(piece.Span), Eof = endOfFile };
            lock (_lock)
            {
                ThrowUnlessOpen();
                input.Offset = _sent;
                if (!piece.IsEmpty)
                {
                    _underWay.Enqueue((_sent, piece.ToArray()));
                    _sent += (ulong)piece.Length;
                }

                _endOfFile |= endOfFile;
                suspended = _suspended;
            }

            sending = SendAndReleaseAsync(suspended ? null : input);
        }
        catch
        {
            _wireTurn.Release();
            throw;
        }

        // Giving up the waiting does not unsend it: the next piece goes out behind it.
        await sending.WaitAsync(cancellationToken).ConfigureAwait(false);
    }

    private async Task SendAndReleaseAsync(StdinData? input)
    {
        try
        {
            if (input is not null)
            {
                await send(new ExecutionInput { Stdin = input }).ConfigureAwait(false);
            }
        }
        finally
        {
            _wireTurn.Release();
        }
    }

    private void ThrowUnlessOpen()
    {
        lock (_lock)
        {
            if (_failure is not null)
            {
                throw new GuestUnavailableException(_failure.Message, _failure);
            }

            if (!_open || _endOfFile)
            {
                throw new GuestException(new Error { Code = ErrorCode.Conflict, Message = "Standard input of this execution is not open." });
            }
        }
    }

    private void Signal()
    {
        _changed.TrySetResult();
        _changed = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
    }
}
