using System.Runtime.CompilerServices;
using System.Text;
using Google.Protobuf;
using Sandbox.Guest.Protocol;
using Sandbox.Isolation.Guest;
using Sandbox.Isolation.Null.State;

namespace Sandbox.Isolation.Null.Interpreter;

/// <summary>
/// One scripted program. It runs only inside calls (an acknowledgement, input, a timer) under the guest's lock, from wherever it stood to wherever it has to wait; so it needs no thread, and what it
/// is can be written down between any two calls.
/// </summary>
internal sealed partial class NullExecution : IGuestExecution
{
    private readonly NullGuest _guest;
    private readonly StartExecution _request;
    private readonly Queue<ExecutionEvent> _waiting = new();
    private readonly List<ExecutionEvent> _retained = [];
    private readonly int _window;
    private TaskCompletionSource? _changed;
    private long _cost;
    private ulong _acknowledged;
    private ulong _promised;
    private ulong _read;

    public NullExecution(NullGuest guest, StartExecution request, string[] program, uint pid)
    {
        (_guest, _request, Program, Pid) = (guest, request, program, pid);
        _window = EventCost.WindowOf(request);
        _stdinOpen = request.Command is { OpenStdin: true } or { Pty: not null };
        _sleep = new PausableTimer(guest.Clock, guest.Gate, () =>
        {
            _awake = true;
            Advance();
        });
        _limit = new PausableTimer(guest.Clock, guest.Gate, OnLimit);
    }

    public NullExecution(NullGuest guest, ExecutionState state, ulong lastSeq)
        : this(guest, StartExecution.Parser.ParseFrom(state.Request), [], state.Pid)
    {
        Program = Programs.Parse(_request);
        (Step, _begun, _ending, _timedOut, _awake, _ran) = (state.Step, state.Begun, state.Ending, state.TimedOut, state.Awake, state.Ran);
        foreach (var waiting in state.Waiting)
        {
            _waiting.Enqueue(ExecutionEvent.Parser.ParseFrom(waiting));
        }

        _acknowledged = state.Acknowledged;
        foreach (var e in state.Retained.Select(ExecutionEvent.Parser.ParseFrom))
        {
            Retain(e);
        }

        foreach (var data in state.Stdin)
        {
            _stdin.Enqueue(data);
            _stdinBytes += data.Length;
        }

        _stdinEnded = state.StdinEnded;
        SetTimer(_sleep, state.Sleep);
        SetTimer(_limit, state.Limit);
        if (lastSeq < _acknowledged || lastSeq > LastSeq)
        {
            Lost = $"Execution {ExecutionId} is to go on after event {lastSeq}; the saved machine has events {_acknowledged + 1} to {LastSeq}.";
            return;
        }

        // What is in the host's log needs no keeping: its acknowledgement may have come after the save.
        _read = lastSeq;
        _promised = lastSeq;
    }

    /// <inheritdoc/>
    public string ExecutionId => _request.ExecutionId;

    /// <inheritdoc/>
    public uint Pid { get; }

    /// <summary>The program and its arguments.</summary>
    public string[] Program { get; }

    /// <summary>The context whose code it is, or empty.</summary>
    public string ContextId => _request.Code?.ContextId ?? "";

    /// <summary>Its exit has been said.</summary>
    public bool Exited { get; private set; }

    /// <summary>Why it could not be brought back, or <see langword="null"/>.</summary>
    public string? Lost { get; private init; }

    private ulong LastSeq => _acknowledged + (ulong)_retained.Count;

    /// <inheritdoc/>
    public IAsyncEnumerable<ExecutionEvent> Events => ReadAsync();

    /// <inheritdoc/>
    public ValueTask AcknowledgeAsync(ulong seq, CancellationToken cancellationToken)
    {
        lock (_guest.Gate)
        {
            ArgumentOutOfRangeException.ThrowIfGreaterThan(seq, _read);

            // It reaches a machine that stands still when that goes on.
            _promised = Math.Max(_promised, seq);
            if (_guest.Running)
            {
                TakeAcknowledgement();
                Advance();
            }
        }

        return ValueTask.CompletedTask;
    }

    /// <inheritdoc/>
    public async ValueTask SignalAsync(int signal, CancellationToken cancellationToken)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(signal, 1);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(signal, 64);
        await _guest.WhileRunningAsync(
            () =>
            {
                Signal(signal);
                return true;
            },
            cancellationToken).ConfigureAwait(false);
    }

    /// <inheritdoc/>
    public ValueTask ResizeAsync(uint columns, uint rows, CancellationToken cancellationToken) => ValueTask.CompletedTask;

    /// <summary>The machine stands still.</summary>
    public void Suspend()
    {
        _sleep.Suspend();
        _limit.Suspend();
        _ran = Ran;
    }

    /// <summary>The machine goes on.</summary>
    public void Resume()
    {
        _since = _guest.Clock.GetTimestamp();
        _sleep.Resume();
        _limit.Resume();
        TakeAcknowledgement();
        Advance();
        SignalChange();
    }

    /// <summary>The machine is gone.</summary>
    public void Break()
    {
        _sleep.Cancel();
        _limit.Cancel();
        SignalChange();
    }

    public ExecutionState Save() => new()
    {
        Request = _request.ToByteArray(),
        Pid = Pid,
        Step = Step,
        Begun = _begun,
        Ending = _ending,
        TimedOut = _timedOut,
        Awake = _awake,
        Sleep = _sleep.Left,
        Limit = _limit.Left,
        Ran = Ran,
        Acknowledged = _acknowledged,
        Retained = [.. _retained.Select(e => e.ToByteArray())],
        Waiting = [.. _waiting.Select(e => e.ToByteArray())],
        Stdin = [.. _stdin],
        StdinEnded = _stdinEnded,
    };

    /// <summary>Runs the program until it has to wait for something. Under the lock.</summary>
    public void Advance()
    {
        while (_guest.Running && !Exited && _cost < _window)
        {
            if (_waiting.Count == 0 && !_ending)
            {
                if (!_begun && !TryBegin())
                {
                    return;
                }

                Programs.Step(this, _guest);
            }

            if (!_waiting.TryDequeue(out var next))
            {
                return;
            }

            next.Seq = LastSeq + 1;
            Retain(next);
            SignalChange();
            if (next.EventCase == ExecutionEvent.EventOneofCase.Exited)
            {
                _sleep.Cancel();
                _limit.Cancel();
                _guest.OnExited(this);
            }
        }
    }

    private void Retain(ExecutionEvent e)
    {
        _retained.Add(e);
        _cost += EventCost.Of(e);
        Exited |= e.EventCase == ExecutionEvent.EventOneofCase.Exited;
    }

    private void TakeAcknowledgement()
    {
        var count = (int)(Math.Max(_promised, _acknowledged) - _acknowledged);
        if (count == 0)
        {
            return;
        }

        _cost -= _retained.Take(count).Sum(e => (long)EventCost.Of(e));
        _retained.RemoveRange(0, count);
        _acknowledged += (ulong)count;
        if (Exited && _retained.Count == 0)
        {
            _guest.Forget(this);
        }
    }

    private async IAsyncEnumerable<ExecutionEvent> ReadAsync([EnumeratorCancellation] CancellationToken cancellationToken = default)
    {
        while (true)
        {
            ExecutionEvent? next = null;
            Task? changed = null;
            lock (_guest.Gate)
            {
                _guest.ThrowIfGone(Lost);
                if (_guest.Running && _read < LastSeq)
                {
                    // Events that are read wait in the list until they are acknowledged.
                    next = _retained[(int)(_read++ - _acknowledged)];
                }
                else if (Exited && _read == LastSeq)
                {
                    yield break;
                }
                else
                {
                    changed = NextChange();
                }
            }

            if (next is not null)
            {
                yield return next;
            }
            else
            {
                await changed!.WaitAsync(cancellationToken).ConfigureAwait(false);
            }
        }
    }

    private static void SetTimer(PausableTimer timer, TimeSpan? left)
    {
        if (left is { } time)
        {
            timer.Set(time, running: false);
        }
    }

    private Task NextChange() => (_changed ??= new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously)).Task;

    private void SignalChange()
    {
        _changed?.TrySetResult();
        _changed = null;
    }

    private static void AddText(Queue<ExecutionEvent> to, OutputFd fd, string text)
    {
        for (var data = Encoding.UTF8.GetBytes(text).AsMemory(); data.Length > 0; data = data[Math.Min(data.Length, ProtocolLimits.MaxOutputBytes)..])
        {
            to.Enqueue(new ExecutionEvent { Output = new Output { Fd = fd, Data = ByteString.CopyFrom(data.Span[..Math.Min(data.Length, ProtocolLimits.MaxOutputBytes)]) } });
        }
    }
}
