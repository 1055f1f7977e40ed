using Sandbox.Wasm.Worker.Platform;

namespace Sandbox.Wasm.Worker.Running;

/// <summary>
/// One guest that runs: the means to stop it from outside. It looks up at every tick of the engine's clock and at every call of the host's functions, and every wait on its behalf ends when it is killed.
/// </summary>
internal sealed class Run(Turns turns, Allowance allowance) : IDisposable
{
    private readonly Lock _lock = new();
    private Turns _turns = turns;
    private Allowance _allowance = allowance;
    private CancellationTokenSource _wake = new();
    private TimeSpan _cpuAtLastLook;
    private TimeSpan _cpu;
    private int _killed;
    private volatile bool _interrupted;
    private bool _disposed;

    /// <summary>Signal that it was killed by, or 0.</summary>
    public int Killed => Volatile.Read(ref _killed);

    /// <summary>It was killed because its machine had no memory left.</summary>
    public bool OutOfMemory { get; private set; }

    public bool Interrupted => _interrupted;

    /// <summary>Called at ticks, on the guest's thread: what it has waiting for a moment.</summary>
    public Action? AtTick { get; set; }

    /// <summary>Size of its memory now.</summary>
    public Func<long> Memory { get; set; } = () => 0;

    public TimeSpan Cpu => _cpu;

    public long PeakMemory { get; private set; }

    /// <summary>Runs something as the guest, in its turn.</summary>
    public void Do(Action work)
    {
        Enter();
        try
        {
            work();
        }
        finally
        {
            Leave();
        }
    }

    /// <summary>Gives it to another machine. Only while it waits.</summary>
    public void Move(Turns turns, Allowance allowance)
    {
        _allowance.Discharge(this);
        (_turns, _allowance) = (turns, allowance);
    }

    /// <summary>Ends it: at the next tick, or at once where it waits.</summary>
    public void Kill(int signal)
    {
        lock (_lock)
        {
            if (Interlocked.CompareExchange(ref _killed, signal, 0) == 0 && !_disposed)
            {
                _wake.Cancel();
            }
        }
    }

    /// <summary>Asks it to leave what it does. Only a guest that looks at <see cref="Interrupted"/> does; a wait ends.</summary>
    public void Interrupt()
    {
        lock (_lock)
        {
            _interrupted = true;
            if (!_disposed)
            {
                _wake.Cancel();
            }
        }
    }

    /// <summary>The interrupt has been heard.</summary>
    public void ClearInterrupt()
    {
        lock (_lock)
        {
            _interrupted = false;
            if (_wake.IsCancellationRequested && Killed == 0)
            {
                _wake.Dispose();
                _wake = new CancellationTokenSource();
            }
        }
    }

    /// <summary>Throws if it was killed.</summary>
    public void ThrowIfKilled()
    {
        if (Killed != 0)
        {
            throw new GuestEndedException("killed");
        }
    }

    /// <summary>The look-up at a tick: killed, over its memory, over its time, somebody else's turn.</summary>
    public void Look()
    {
        ThrowIfKilled();
        Account();
        AtTick?.Invoke();
        _turns.Yield();
        ThrowIfKilled();
    }

    /// <summary>Waits on the guest's behalf, without its turn. Returns false if it was interrupted.</summary>
    public bool Wait(Action<CancellationToken> wait)
    {
        ThrowIfKilled();
        CancellationToken token;
        lock (_lock)
        {
            token = _wake.Token;
        }

        var waited = true;
        Leave();
        try
        {
            wait(token);
        }
        catch (OperationCanceledException)
        {
            waited = false;
        }
        finally
        {
            Enter();
        }

        ThrowIfKilled();
        return waited;
    }

    /// <summary>Sleeps; less long if interrupted.</summary>
    public bool Sleep(TimeSpan time) => time <= TimeSpan.Zero || Wait(t =>
    {
        if (t.WaitHandle.WaitOne(time > TimeSpan.FromDays(20) ? TimeSpan.FromDays(20) : time))
        {
            throw new OperationCanceledException(t);
        }
    });

    public void Dispose()
    {
        lock (_lock)
        {
            _disposed = true;
            _wake.Dispose();
        }

        _allowance.Discharge(this);
    }

    private void Enter()
    {
        _turns.Acquire();
        _cpuAtLastLook = Native.ThreadCpu();
        WasmEngine.Enter();
    }

    private void Leave()
    {
        WasmEngine.Leave();
        var pause = AccountCpu();
        _turns.Release();
        if (pause > TimeSpan.Zero && Killed == 0)
        {
            Thread.Sleep(pause > TimeSpan.FromMilliseconds(100) ? TimeSpan.FromMilliseconds(100) : pause);
        }
    }

    private void Account()
    {
        var bytes = Memory();
        PeakMemory = Math.Max(PeakMemory, bytes);
        if (!_allowance.Charge(this, bytes))
        {
            OutOfMemory = true;
            Kill(9);
            ThrowIfKilled();
        }

        // The turn is kept meanwhile: it is the machine that has used its time up.
        for (var pause = AccountCpu(); pause > TimeSpan.Zero && Killed == 0;)
        {
            var part = pause > TimeSpan.FromMilliseconds(50) ? TimeSpan.FromMilliseconds(50) : pause;
            Thread.Sleep(part);
            pause -= part;
        }
    }

    private TimeSpan AccountCpu()
    {
        var now = Native.ThreadCpu();
        var used = now - _cpuAtLastLook;
        _cpuAtLastLook = now;
        _cpu += used;
        return _allowance.Spend(used);
    }
}
