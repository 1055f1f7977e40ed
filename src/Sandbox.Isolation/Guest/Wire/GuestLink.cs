using System.Security.Cryptography;
using Google.Protobuf;
using Sandbox.Guest.Protocol;
using Sandbox.Isolation.Guest.Validation;

namespace Sandbox.Isolation.Guest.Wire;

/// <summary>One byte stream to a guest, from its handshake to its end. A connection that is cut and joined again has several, one after the other.</summary>
internal sealed class GuestLink : IAsyncDisposable
{
    private const int ZerosFromAttempt = 4;

    private readonly Stream _stream;
    private readonly FrameWriter _writer;
    private readonly SemaphoreSlim _turn = new(1, 1);
    private ReadAheadStream? _reader;

    public GuestLink(Stream stream)
    {
        _stream = stream;
        _writer = new FrameWriter(stream);
    }

    /// <summary>How often the hello was sent.</summary>
    public int Attempts { get; private set; }

    /// <summary>Bytes that have come since the handshake.</summary>
    public long Received => _reader?.Received ?? 0;

    /// <summary>Ends with <see cref="RunAsync"/>.</summary>
    public Task Receiving { get; set; } = Task.CompletedTask;

    /// <summary>Resynchronises and exchanges hellos (docs/guest-protocol.md). The caller bounds the time by the token.</summary>
    /// <exception cref="ProtocolException">The guest answered with something illegal.</exception>
    /// <exception cref="IOException">The stream ended or failed.</exception>
    public async Task<Hello> ShakeHandsAsync(TimeSpan interval, TimeProvider time, CancellationToken cancellationToken)
    {
        var epoch = ByteString.CopyFrom(RandomNumberGenerator.GetBytes(16));
        using var answered = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        var sending = SendHellosAsync(epoch, interval, time, answered.Token, cancellationToken);
        Hello hello;
        try
        {
            var reading = FindHelloAsync(epoch, cancellationToken);
            if (await Task.WhenAny(reading, sending).ConfigureAwait(false) == sending && sending.IsFaulted)
            {
                await _stream.DisposeAsync().ConfigureAwait(false);
                await Quietly(reading).ConfigureAwait(false);
                await sending.ConfigureAwait(false);
            }

            hello = await reading.ConfigureAwait(false);
        }
        finally
        {
            await answered.CancelAsync().ConfigureAwait(false);
            if (cancellationToken.IsCancellationRequested)
            {
                // A write may be stuck for ever in a guest that does not read; the stream is of no more use.
                await _stream.DisposeAsync().ConfigureAwait(false);
            }
        }

        // A hello that is half written must be finished before anything else is said.
        await sending.WaitAsync(cancellationToken).ConfigureAwait(false);
        HelloRules.Check(hello);
        return hello;
    }

    /// <summary>Writes one frame. Cancelling gives up the waiting; a frame that has begun is still written whole.</summary>
    /// <exception cref="IOException">The stream is gone.</exception>
    public Task SendAsync(Frame frame, CancellationToken cancellationToken) => SendAsync(() => frame, cancellationToken);

    /// <summary>Writes one frame that is made when its turn has come, so that what it numbers goes out in the order of the numbers.</summary>
    public async Task SendAsync(Func<Frame> make, CancellationToken cancellationToken)
    {
        await _turn.WaitAsync(cancellationToken).ConfigureAwait(false);
        Task writing;
        try
        {
            writing = WriteAndReleaseAsync(make());
        }
        catch
        {
            _turn.Release();
            throw;
        }

        await writing.WaitAsync(cancellationToken).ConfigureAwait(false);
    }

    /// <summary>Waits for the turn to write, which the caller then has until it calls <see cref="ReleaseTurn"/>.</summary>
    public Task TakeTurnAsync() => _turn.WaitAsync();

    /// <summary>Writes one frame in the turn that the caller has.</summary>
    /// <exception cref="IOException">The stream is gone.</exception>
    public async Task SendInTurnAsync(Frame frame)
    {
        try
        {
            await _writer.WriteAsync(frame, CancellationToken.None).ConfigureAwait(false);
        }
        catch (Exception e) when (e is ObjectDisposedException or InvalidOperationException or OperationCanceledException)
        {
            throw new IOException("The byte channel is closed.", e);
        }
    }

    /// <summary>Lets the others write again.</summary>
    public void ReleaseTurn() => _turn.Release();

    /// <summary>Hands every frame to <paramref name="dispatch"/> until the stream ends or a rule is broken. Never throws.</summary>
    public async Task<LinkEnd> RunAsync(Action<Frame> dispatch)
    {
        var reader = new FrameReader(_reader!);
        try
        {
            while (await reader.ReadAsync(CancellationToken.None).ConfigureAwait(false) is { } frame)
            {
                dispatch(frame);
            }

            return new LinkEnd(LinkEndKind.Cut, "the byte channel ended");
        }
        catch (ProtocolException e)
        {
            return _reader!.Ended ? new LinkEnd(LinkEndKind.Cut, "the byte channel ended inside a frame") : new LinkEnd(LinkEndKind.Violation, e.Message);
        }
        catch (Exception e) when (e is IOException or ObjectDisposedException or OperationCanceledException or System.Net.Sockets.SocketException)
        {
            return new LinkEnd(LinkEndKind.Cut, "the byte channel failed: " + e.Message);
        }
        catch (Exception e)
        {
            // A fault of the host's own must not leave callers waiting for ever.
            return new LinkEnd(LinkEndKind.HostFault, "handling a frame failed in the host: " + e.Message, e);
        }
    }

    /// <summary>Closes the byte stream; what is under way on it fails.</summary>
    public async ValueTask DisposeAsync()
    {
        try
        {
            await _stream.DisposeAsync().ConfigureAwait(false);
        }
        catch (Exception e) when (e is IOException or InvalidOperationException)
        {
            // The other end was faster.
        }
    }

    private static async Task Quietly(Task task) => await task.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);

    private async Task WriteAndReleaseAsync(Frame frame)
    {
        // Off the caller's stack at once: a pipe may complete synchronously into anybody's code.
        try
        {
            await _writer.WriteAsync(frame, CancellationToken.None).ConfigureAwait(false);
        }
        catch (Exception e) when (e is ObjectDisposedException or InvalidOperationException or OperationCanceledException)
        {
            throw new IOException("The byte channel is closed.", e);
        }
        finally
        {
            _turn.Release();
        }
    }

    private async Task SendHellosAsync(ByteString epoch, TimeSpan interval, TimeProvider time, CancellationToken answered, CancellationToken gaveUp)
    {
        var hello = new Frame { Hello = new Hello { Version = ProtocolLimits.Version, Epoch = epoch } };
        try
        {
            while (!answered.IsCancellationRequested)
            {
                if (++Attempts >= ZerosFromAttempt)
                {
                    await _stream.WriteAsync(new byte[ProtocolLimits.MaxFrameBytes + sizeof(uint)], gaveUp).ConfigureAwait(false);
                }

                await _stream.WriteAsync(ProtocolLimits.Preamble.ToArray(), gaveUp).ConfigureAwait(false);
                await _writer.WriteAsync(hello, gaveUp).ConfigureAwait(false);
                await Task.Delay(interval, time, answered).ConfigureAwait(false);
            }
        }
        catch (OperationCanceledException) when (answered.IsCancellationRequested)
        {
            // Answered, or given up.
        }
    }

    private async Task<Hello> FindHelloAsync(ByteString epoch, CancellationToken cancellationToken)
    {
        var scanner = new HelloScanner(epoch);
        while (true)
        {
            var got = await _stream.ReadAsync(scanner.Room, cancellationToken).ConfigureAwait(false);
            if (got == 0)
            {
                throw new EndOfStreamException("The byte channel ended before the guest said hello.");
            }

            if (scanner.Advance(got) is { } hello)
            {
                _reader = new ReadAheadStream(_stream, scanner.Rest);
                return hello;
            }
        }
    }
}

/// <summary>Why a link ended.</summary>
internal sealed record LinkEnd(LinkEndKind Kind, string Reason, Exception? Fault = null);

/// <summary>What kind of end.</summary>
internal enum LinkEndKind
{
    /// <summary>The bytes stopped: the channel may be joined again.</summary>
    Cut,

    /// <summary>The guest broke the protocol: the channel is closed for good.</summary>
    Violation,

    /// <summary>The host has a bug: the channel is closed for good.</summary>
    HostFault,
}
