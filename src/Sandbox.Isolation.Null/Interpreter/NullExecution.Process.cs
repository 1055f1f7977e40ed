using Google.Protobuf;
using Sandbox.Guest.Protocol;

namespace Sandbox.Isolation.Null.Interpreter;

// What a program sees of its process: output, input, sleep, signals, exit. Everything is called under the guest's lock.
internal sealed partial class NullExecution
{
    private readonly Queue<byte[]> _stdin = new();
    private readonly bool _stdinOpen;
    private readonly PausableTimer _sleep;
    private readonly PausableTimer _limit;
    private int _stdinBytes;
    private bool _stdinEnded;
    private bool _begun;
    private bool _ending;
    private bool _timedOut;
    private bool _awake;
    private TimeSpan _ran;
    private long _since;

    /// <summary>How far the program is; what that means is the program's own business.</summary>
    public long Step { get; set; }

    /// <summary>The source, where it is code.</summary>
    public string? Code => _request.Code?.Source;

    public IReadOnlyDictionary<string, string> Env => _request.Env;

    private bool IsStubborn => Program is ["stubborn", ..];

    private TimeSpan Ran => _begun && _guest.Running ? _ran + _guest.Clock.GetElapsedTime(_since) : _ran;

    public void Print(string text, OutputFd fd = OutputFd.Stdout) => AddText(_waiting, _request.Command?.Pty is null ? fd : OutputFd.Pty, text);

    public void Print(byte[] data) =>
        _waiting.Enqueue(new ExecutionEvent { Output = new Output { Fd = _request.Command?.Pty is null ? OutputFd.Stdout : OutputFd.Pty, Data = ByteString.CopyFrom(data) } });

    public void Show(string value, uint count) => _waiting.Enqueue(new ExecutionEvent
    {
        Result = new RichResult { IsMain = true, ExecutionCount = count, Data = { ["text/plain"] = ByteString.CopyFromUtf8(value) } },
    });

    /// <summary>Code: an error, and exit 1. A command: a line on standard error, and exit 1.</summary>
    public void Fail(string name, string message)
    {
        if (Code is null)
        {
            Print(message + "\n", OutputFd.Stderr);
        }
        else
        {
            _waiting.Enqueue(new ExecutionEvent { CodeError = new CodeError { Name = name, Value = message, Traceback = $"{name}: {message}" } });
        }

        Exit(1);
    }

    public void Exit(int code) => End(new Exited { ExitCode = code });

    /// <summary>Whether a sleep of that many milliseconds is over; begins it at the first call.</summary>
    public bool Slept(long milliseconds)
    {
        if (_awake)
        {
            _awake = false;
            return true;
        }

        if (!_sleep.IsSet)
        {
            _sleep.Set(TimeSpan.FromMilliseconds(milliseconds), running: true);
        }

        return false;
    }

    /// <summary>The next piece of standard input; <see langword="null"/>: none yet. Empty: its end.</summary>
    public byte[]? ReadStdin()
    {
        if (_stdin.TryDequeue(out var data))
        {
            _stdinBytes -= data.Length;
            SignalChange();
            return data;
        }

        return _stdinEnded || !_stdinOpen ? [] : null;
    }

    /// <inheritdoc/>
    public async ValueTask WriteStdinAsync(ReadOnlyMemory<byte> data, bool endOfFile, CancellationToken cancellationToken)
    {
        while (true)
        {
            Task changed;
            lock (_guest.Gate)
            {
                _guest.ThrowIfGone(Lost);
                if (!_stdinOpen || _stdinEnded || _ending)
                {
                    throw Faults.Of(ErrorCode.Conflict, "Standard input of this execution is not open.");
                }

                if (_guest.Running)
                {
                    // A program that reads makes room at once.
                    while (data.Length > 0 && ProtocolLimits.MaxStdinUnderWay - _stdinBytes is var room and > 0)
                    {
                        var piece = data[..Math.Min(Math.Min(data.Length, room), ProtocolLimits.MaxOutputBytes)];
                        data = data[piece.Length..];
                        _stdin.Enqueue(piece.ToArray());
                        _stdinBytes += piece.Length;
                        Advance();
                    }

                    if (data.Length == 0)
                    {
                        _stdinEnded = endOfFile;
                        Advance();
                        return;
                    }
                }

                changed = NextChange();
            }

            await changed.WaitAsync(cancellationToken).ConfigureAwait(false);
        }
    }

    /// <summary>A signal ends it, but for a stubborn one; an interrupt ends code as an error and leaves its context.</summary>
    public void Signal(int signal)
    {
        if (_ending || (IsStubborn && signal != 9))
        {
            return;
        }

        if (Code is null)
        {
            End(new Exited { Signal = signal });
        }
        else if (signal == 2)
        {
            Fail("KeyboardInterrupt", "interrupted");
        }
        else
        {
            // A piece that waits for its turn is cancelled; one that runs takes the interpreter with it.
            if (_begun)
            {
                _guest.FindContext(ContextId)?.Lose();
            }

            End(new Exited { Signal = signal, ContextLost = _begun });
        }

        Advance();
    }

    private bool TryBegin()
    {
        if (!_guest.IsTurnOf(this))
        {
            return false;
        }

        _begun = true;
        _since = _guest.Clock.GetTimestamp();
        if (_request.TimeoutMs > 0)
        {
            _limit.Set(TimeSpan.FromMilliseconds(Math.Min(_request.TimeoutMs, uint.MaxValue - 1)), running: true);
        }

        return true;
    }

    private void OnLimit()
    {
        if (_timedOut)
        {
            Signal(9);
            return;
        }

        _timedOut = true;
        _limit.Set(TimeSpan.FromMilliseconds(_request.GraceMs == 0 ? ProtocolLimits.DefaultGraceMs : Math.Min(_request.GraceMs, uint.MaxValue - 1)), running: true);
        Signal(Code is null ? 15 : 2);
    }

    private void End(Exited exited)
    {
        _ending = true;
        _sleep.Cancel();
        _limit.Cancel();
        exited.TimedOut = _timedOut;
        exited.WallMs = (ulong)Ran.TotalMilliseconds;
        _waiting.Enqueue(new ExecutionEvent { Exited = exited });
        SignalChange();
    }
}
