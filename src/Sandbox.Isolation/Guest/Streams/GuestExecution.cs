using System.Threading.Channels;
using Sandbox.Guest.Protocol;
using Sandbox.Isolation.Guest.Validation;

namespace Sandbox.Isolation.Guest.Streams;

/// <summary>
/// One execution in a guest. Events wait in a queue that the output window bounds: the guest may not send more until its host acknowledges.
/// </summary>
internal sealed class GuestExecution : GuestStream, IGuestExecution
{
    private readonly Lock _lock = new();
    private readonly ExecutionRules _rules;
    private readonly IExecutionChannel _channel;
    private readonly Queue<int> _costs = new();
    private readonly Channel<ExecutionEvent> _events = Channel.CreateUnbounded<ExecutionEvent>(
        new UnboundedChannelOptions { SingleWriter = true });

    private readonly StartExecution _shape;
    private long _unacknowledged;
    private ulong _acknowledged;
    private ulong _stdinClosedSeq;

    public GuestExecution(StartExecution request, uint pid, IExecutionChannel channel, ulong afterSeq = 0)
    {
        _rules = new ExecutionRules(request, afterSeq);
        _channel = channel;
        _acknowledged = afterSeq;
        _shape = ExecutionMemo.ShapeOf(request);
        ExecutionId = request.ExecutionId;
        Pid = pid;
        Stdin = new GuestStdin(_rules.HasStdin, input => _channel.TrySendAsync(Id, input));
    }

    /// <summary>An execution that goes on in a restored machine, behind the last event that is in the host's log.</summary>
    public GuestExecution(ExecutionMemo memo, StartExecution shape, ulong lastSeq, IExecutionChannel channel)
    {
        _stdinClosedSeq = memo.StdinClosedSeq <= lastSeq ? memo.StdinClosedSeq : 0;
        _rules = new ExecutionRules(shape, lastSeq, _stdinClosedSeq > 0);
        _channel = channel;
        _acknowledged = lastSeq;
        _shape = shape;
        ExecutionId = shape.ExecutionId;
        Pid = memo.Pid;
        Stdin = new GuestStdin(memo.Stdin, input => _channel.TrySendAsync(Id, input));
    }

    /// <inheritdoc/>
    public string ExecutionId { get; }

    /// <inheritdoc/>
    public uint Pid { get; }

    /// <summary>Its standard input.</summary>
    public GuestStdin Stdin { get; }

    /// <inheritdoc/>
    public IAsyncEnumerable<ExecutionEvent> Events => _events.Reader.ReadAllAsync();

    /// <inheritdoc/>
    public override void Receive(Frame frame)
    {
        switch (frame.BodyCase)
        {
            case Frame.BodyOneofCase.Event:
                Receive(frame.Event);
                break;
            case Frame.BodyOneofCase.StdinCredit:
                Stdin.Credit(frame.StdinCredit.Offset);
                break;
            default:
                throw WrongKind(frame, "an execution");
        }
    }

    /// <inheritdoc/>
    public override void Fail(Exception reason)
    {
        _events.Writer.TryComplete(reason);
        Stdin.Fail(reason);
    }

    /// <inheritdoc/>
    public async ValueTask AcknowledgeAsync(ulong seq, CancellationToken cancellationToken)
    {
        bool done;
        lock (_lock)
        {
            if (seq > _rules.LastSeq)
            {
                throw new ArgumentOutOfRangeException(nameof(seq), seq, $"Only {_rules.LastSeq} events of execution {ExecutionId} have come.");
            }

            if (seq <= _acknowledged)
            {
                return;
            }

            // Counted before it is sent: the guest may answer with more at once.
            while (_acknowledged < seq)
            {
                _unacknowledged -= _costs.Dequeue();
                _acknowledged++;
            }

            done = _rules.Exited && _acknowledged == _rules.LastSeq;
        }

        if (done)
        {
            _channel.Finished(this);
        }

        // While the channel is cut this is dropped, and repeated when it is joined again.
        await _channel.TrySendAsync(Id, new ExecutionInput { Ack = seq }).WaitAsync(cancellationToken).ConfigureAwait(false);
    }

    /// <inheritdoc/>
    public ValueTask WriteStdinAsync(ReadOnlyMemory<byte> data, bool endOfFile, CancellationToken cancellationToken) =>
        Stdin.WriteAsync(data, endOfFile, cancellationToken);

    /// <inheritdoc/>
    public async ValueTask SignalAsync(int signal, CancellationToken cancellationToken)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(signal, 1);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(signal, 64);
        await _channel.SendAsync(Id, new ExecutionInput { Signal = new Signal { Number = signal } }, cancellationToken).ConfigureAwait(false);
    }

    /// <inheritdoc/>
    public async ValueTask ResizeAsync(uint columns, uint rows, CancellationToken cancellationToken)
    {
        await _channel.SendAsync(Id, new ExecutionInput { Resize = new PtySize { Columns = columns, Rows = rows } }, cancellationToken).ConfigureAwait(false);
    }

    /// <summary>Where the host stands; what a surviving execution is compared with.</summary>
    public (ulong Acknowledged, ulong Received, bool Exited) Position
    {
        get
        {
            lock (_lock)
            {
                return (_acknowledged, _rules.LastSeq, _rules.Exited);
            }
        }
    }

    /// <summary>What a host that restores this guest must know of it.</summary>
    public ExecutionMemo Remember()
    {
        lock (_lock)
        {
            return new ExecutionMemo(Id, ExecutionMemo.Encode(_shape), Pid, _rules.Exited, _stdinClosedSeq, Stdin.Remember());
        }
    }

    /// <summary>After a cut: says what is safe, asks for what is missing, repeats what may have been lost on the way in.</summary>
    public async Task ResumeAsync()
    {
        var (acknowledged, received, exited) = Position;
        if (acknowledged > 0)
        {
            await _channel.TrySendAsync(Id, new ExecutionInput { Ack = acknowledged }).ConfigureAwait(false);
        }

        if (!exited)
        {
            await _channel.TrySendAsync(Id, new ExecutionInput { Replay = new Replay { AfterSeq = received } }).ConfigureAwait(false);
            await Stdin.RepeatAsync().ConfigureAwait(false);
        }
    }

    /// <summary>Nobody wants this execution: kills it and throws away what it still says, so that the guest can forget it.</summary>
    public async Task DrainAsync()
    {
        try
        {
            await _channel.TrySendAsync(Id, new ExecutionInput { Signal = new Signal { Number = 9 } }).ConfigureAwait(false);
            await foreach (var executionEvent in Events.ConfigureAwait(false))
            {
                await AcknowledgeAsync(executionEvent.Seq, CancellationToken.None).ConfigureAwait(false);
            }
        }
        catch (GuestUnavailableException)
        {
            // Then it is gone in any case.
        }
    }

    private void Receive(ExecutionEvent executionEvent)
    {
        bool exited;
        lock (_lock)
        {
            _rules.Accept(executionEvent, _unacknowledged);
            var cost = EventCost.Of(executionEvent);
            _costs.Enqueue(cost);
            _unacknowledged += cost;
            exited = _rules.Exited;
            if (executionEvent.EventCase == ExecutionEvent.EventOneofCase.StdinClosed)
            {
                _stdinClosedSeq = executionEvent.Seq;
            }
        }

        if (exited || executionEvent.EventCase == ExecutionEvent.EventOneofCase.StdinClosed)
        {
            Stdin.Close();
        }

        if (exited)
        {
            _channel.Exited(this);
        }

        _events.Writer.TryWrite(executionEvent);
        if (exited)
        {
            _events.Writer.TryComplete();
        }
    }
}

/// <summary>What an execution needs of its connection.</summary>
internal interface IExecutionChannel
{
    /// <summary>Sends, or throws <see cref="GuestUnavailableException"/> while the channel is cut or closed.</summary>
    Task SendAsync(ulong stream, ExecutionInput input, CancellationToken cancellationToken);

    /// <summary>Sends, or does nothing where there is no channel: what is sent so is repeated when it is joined again. Never throws.</summary>
    Task TrySendAsync(ulong stream, ExecutionInput input);

    /// <summary>The exit has come: no more events.</summary>
    void Exited(GuestExecution execution);

    /// <summary>The exit is acknowledged: the guest forgets the execution, and so may the host.</summary>
    void Finished(GuestExecution execution);
}
