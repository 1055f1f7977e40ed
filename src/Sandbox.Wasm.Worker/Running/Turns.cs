namespace Sandbox.Wasm.Worker.Running;

/// <summary>
/// The virtual processors of one machine: so many of its guests run at a time, in turn, and none while it is frozen. One that waits for something gives its turn away. So a machine that spins with
/// a hundred guests takes no more from its neighbours than one that spins with one.
/// </summary>
internal sealed class Turns
{
    private readonly int _processors;
    private readonly object _lock = new();
    private readonly LinkedList<Waiter> _queue = new();
    private int _free;
    private bool _frozen;
    private bool _closed;

    public Turns(int processors) => (_processors, _free) = (processors, processors);

    /// <summary>Somebody else would like to run.</summary>
    public bool Contended => Volatile.Read(ref _frozen) || _queue.Count > 0;

    public void Acquire()
    {
        lock (_lock)
        {
            if (_closed || (!_frozen && _free > 0 && _queue.Count == 0))
            {
                _free--;
                return;
            }

            var waiter = new Waiter();
            _queue.AddLast(waiter);
            while (!waiter.Granted)
            {
                Monitor.Wait(_lock);
            }
        }
    }

    public void Release()
    {
        lock (_lock)
        {
            _free++;
            Grant();
            Monitor.PulseAll(_lock);
        }
    }

    /// <summary>Lets the others run first, if there are any.</summary>
    public void Yield()
    {
        if (Contended)
        {
            Release();
            Acquire();
        }
    }

    /// <summary>Stops the machine. Returns whether all its guests stand still; one may be in a function of the host that takes longer.</summary>
    public bool Freeze(TimeSpan patience)
    {
        var deadline = Environment.TickCount64 + (long)patience.TotalMilliseconds;
        lock (_lock)
        {
            _frozen = true;
            while (_free < _processors)
            {
                var left = deadline - Environment.TickCount64;
                if (left <= 0 || !Monitor.Wait(_lock, (int)left))
                {
                    return _free >= _processors;
                }
            }

            return true;
        }
    }

    public void Thaw()
    {
        lock (_lock)
        {
            _frozen = false;
            Grant();
            Monitor.PulseAll(_lock);
        }
    }

    /// <summary>The machine is over: whoever waits may go on, to find that out.</summary>
    public void Close()
    {
        lock (_lock)
        {
            _closed = true;
            _frozen = false;
            Grant();
            Monitor.PulseAll(_lock);
        }
    }

    private void Grant()
    {
        while (_queue.First is { } first && (_closed || (!_frozen && _free > 0)))
        {
            _queue.RemoveFirst();
            _free--;
            first.Value.Granted = true;
        }
    }

    private sealed class Waiter
    {
        public bool Granted { get; set; }
    }
}
