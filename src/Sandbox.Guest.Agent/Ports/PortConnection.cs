using System.Net.Sockets;
using Google.Protobuf;
using Sandbox.Guest.Agent.Channel;
using Sandbox.Guest.Protocol;
using Channels = System.Threading.Channels;

namespace Sandbox.Guest.Agent.Ports;

/// <summary>
/// One connection to a program, and its stream to the host. Neither side holds more than a window of the other's bytes: the program is not read while the host has granted nothing, and the
/// host is granted what the program has taken. A reset to the host is the last word, whatever the end.
/// </summary>
internal sealed class PortConnection
{
    /// <summary>After both ends the program may still have to read what is left; so long it may take.</summary>
    private static readonly TimeSpan Linger = TimeSpan.FromSeconds(60);

    /// <summary>Granting every few bytes would double the frames.</summary>
    private const int GrantAt = ProtocolLimits.PortWindow / 4;

    private readonly ulong _stream;
    private readonly Socket _socket;
    private readonly Outbox _outbox;
    private readonly int _epoch;
    private readonly Action<ulong> _ended;
    private readonly Channels.Channel<PortData> _incoming = Channels.Channel.CreateUnbounded<PortData>(new Channels.UnboundedChannelOptions { SingleReader = true });
    private readonly CancellationTokenSource _closing = new();
    private readonly SemaphoreSlim _granted = new(0);
    private readonly Lock _lock = new();
    private long _mayTake = ProtocolLimits.PortWindow;
    private long _maySend = ProtocolLimits.PortWindow;
    private bool _begun;
    private bool _hostEnded;

    public PortConnection(ulong stream, Socket socket, Outbox outbox, int epoch, Action<ulong> ended) =>
        (_stream, _socket, _outbox, _epoch, _ended) = (stream, socket, outbox, epoch, ended);

    /// <summary>Carries bytes from now on.</summary>
    public void Begin()
    {
        if (!Interlocked.Exchange(ref _begun, true))
        {
            _ = Task.Run(RunAsync);
        }
    }

    /// <summary>Takes what the host sends. More than it was granted, or anything behind its end, is a bug of the host's: the connection ends.</summary>
    public void Take(PortData data)
    {
        bool legal;
        lock (_lock)
        {
            legal = !_hostEnded && data.Data.Length <= ProtocolLimits.MaxPortDataBytes && data.Data.Length <= _mayTake && (data.Data.Length > 0 || data.End);
            _mayTake -= data.Data.Length;
            _hostEnded |= data.End;
        }

        if (data.Reset || !legal)
        {
            Close();
            return;
        }

        _incoming.Writer.TryWrite(data);
    }

    /// <summary>The host has room for more.</summary>
    public void Grant(uint bytes)
    {
        lock (_lock)
        {
            _maySend = Math.Min(_maySend + bytes, ProtocolLimits.PortWindow);
        }

        _granted.Release();
    }

    /// <summary>Ends it now.</summary>
    public void Close()
    {
        _closing.Cancel();

        // One that never began has no task to end it.
        Begin();
    }

    private async Task RunAsync()
    {
        var reading = EndingAllIfBrokenAsync(ReadProgramAsync);
        var writing = EndingAllIfBrokenAsync(WriteProgramAsync);
        await reading.ConfigureAwait(false);
        if (await Task.WhenAny(writing, HostEndedLongAgoAsync()).ConfigureAwait(false) != writing)
        {
            _closing.Cancel();
        }

        await writing.ConfigureAwait(false);
        _socket.Dispose();
        _outbox.Send(new Frame { Stream = _stream, PortData = new PortData { Reset = true } }, _epoch);
        _ended(_stream);
    }

    /// <summary>What only one direction cannot do any more ends both: a program that cannot be written to is gone, or does not want to hear.</summary>
    private async Task EndingAllIfBrokenAsync(Func<CancellationToken, Task> work)
    {
        try
        {
            await work(_closing.Token).ConfigureAwait(false);
        }
        catch (Exception e) when (e is SocketException or OperationCanceledException or ObjectDisposedException)
        {
            _closing.Cancel();
        }
    }

    private async Task HostEndedLongAgoAsync()
    {
        try
        {
            for (var left = Linger; left > TimeSpan.Zero;)
            {
                await Task.Delay(TimeSpan.FromSeconds(1), _closing.Token).ConfigureAwait(false);
                lock (_lock)
                {
                    left -= _hostEnded ? TimeSpan.FromSeconds(1) : TimeSpan.Zero;
                }
            }
        }
        catch (OperationCanceledException)
        {
            // It ends anyway.
        }
    }

    private async Task ReadProgramAsync(CancellationToken cancellationToken)
    {
        var buffer = new byte[ProtocolLimits.MaxPortDataBytes];
        while (true)
        {
            // The queue to the host is everybody's: what a program pours out must not fill the guest's memory.
            var room = await MaySendAsync(cancellationToken).ConfigureAwait(false);
            var n = await _socket.ReceiveAsync(buffer.AsMemory(0, room), SocketFlags.None, cancellationToken).ConfigureAwait(false);
            if (n == 0)
            {
                _outbox.Send(new Frame { Stream = _stream, PortData = new PortData { End = true } }, _epoch);
                return;
            }

            lock (_lock)
            {
                _maySend -= n;
            }

            _outbox.Send(new Frame { Stream = _stream, PortData = new PortData { Data = ByteString.CopyFrom(buffer, 0, n) } }, _epoch);
        }
    }

    private async Task<int> MaySendAsync(CancellationToken cancellationToken)
    {
        while (true)
        {
            var congested = _outbox.IsCongested;
            lock (_lock)
            {
                if (_maySend > 0 && !congested)
                {
                    return (int)Math.Min(_maySend, ProtocolLimits.MaxPortDataBytes);
                }
            }

            // Nobody says when the queue is shorter: looked at again soon.
            await _granted.WaitAsync(congested ? TimeSpan.FromMilliseconds(5) : Timeout.InfiniteTimeSpan, cancellationToken).ConfigureAwait(false);
        }
    }

    private async Task WriteProgramAsync(CancellationToken cancellationToken)
    {
        var taken = 0;
        await foreach (var data in _incoming.Reader.ReadAllAsync(cancellationToken).ConfigureAwait(false))
        {
            for (var left = data.Data.Memory; left.Length > 0;)
            {
                left = left[await _socket.SendAsync(left, SocketFlags.None, cancellationToken).ConfigureAwait(false)..];
            }

            if (data.End)
            {
                _socket.Shutdown(SocketShutdown.Send);
                return;
            }

            taken += data.Data.Length;
            if (taken >= GrantAt)
            {
                lock (_lock)
                {
                    _mayTake += taken;
                }

                _outbox.Send(new Frame { Stream = _stream, PortCredit = new PortCredit { Bytes = (uint)taken } }, _epoch);
                taken = 0;
            }
        }
    }
}
