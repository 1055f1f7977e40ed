using Sandbox.Guest.Protocol;
using Sandbox.Wasm.Worker.Channel;

namespace Sandbox.Wasm.Worker.Executions;

/// <summary>What all executions of one machine keep for their host together, in bytes, and may keep.</summary>
internal sealed class KeptBytes(long most)
{
    private long _kept;

    public bool HasRoom => Interlocked.Read(ref _kept) < most;

    public void Charge(long bytes) => Interlocked.Add(ref _kept, bytes);
}

/// <summary>The events of one execution that the host has not acknowledged. Adding waits while the window is full: that is the flow control.</summary>
internal sealed class EventLog(ulong stream, int window, Outbox outbox, KeptBytes keptByAll)
{
    /// <summary>An execution may always keep this much, in bytes, however much the others keep.</summary>
    private const int Share = 64 * 1024;

    private readonly Queue<ExecutionEvent> _kept = new();
    private readonly Lock _lock = new();
    private readonly SemaphoreSlim _room = new(0);
    private bool _waiting;
    private long _cost;
    private ulong _next = 1;
    private bool _open;

    /// <summary>Everything has been acknowledged and nothing will follow.</summary>
    public bool Finished { get; private set; }

    public bool Ended { get; private set; }

    private bool HasRoom => _cost < window && (_cost < Share || keptByAll.HasRoom);

    /// <summary>Appends and sends an event if there is room. True also after the end, when events are dropped.</summary>
    public bool TryAdd(ExecutionEvent e)
    {
        lock (_lock)
        {
            if (Ended)
            {
                return true;
            }

            if (!HasRoom)
            {
                return false;
            }

            e.Seq = _next++;
            Charge(EventCost.Of(e));
            _kept.Enqueue(e);
            Ended = e.EventCase == ExecutionEvent.EventOneofCase.Exited;
            if (_open)
            {
                outbox.Send(new Frame { Stream = stream, Event = e });
            }

            return true;
        }
    }

    /// <summary>Appends and sends an event, waiting for room.</summary>
    public void Add(ExecutionEvent e, CancellationToken cancellationToken)
    {
        while (!TryAdd(e))
        {
            lock (_lock)
            {
                if (HasRoom)
                {
                    continue;
                }

                _waiting = true;
            }

            // Room in the budget of all is made by others, who do not wake this one.
            _room.Wait(50, cancellationToken);
        }
    }

    public void Acknowledge(ulong seq)
    {
        lock (_lock)
        {
            while (_kept.TryPeek(out var first) && first.Seq <= seq)
            {
                Charge(-EventCost.Of(_kept.Dequeue()));
            }

            Finished = Ended && _kept.Count == 0;
            if (HasRoom && _waiting)
            {
                _room.Release();
                _waiting = false;
            }
        }
    }

    /// <summary>Sends what is kept behind an event, and from now on what comes.</summary>
    public void Replay(ulong afterSeq)
    {
        lock (_lock)
        {
            _open = true;
            foreach (var e in _kept.Where(e => e.Seq > afterSeq))
            {
                outbox.Send(new Frame { Stream = stream, Event = e });
            }
        }
    }

    /// <summary>Another connection begins: nothing is sent until its host asks for the replay. Returns what can be replayed.</summary>
    public (ulong FirstKept, ulong Next) Suspend()
    {
        lock (_lock)
        {
            _open = false;
            return (_kept.TryPeek(out var first) ? first.Seq : _next, _next);
        }
    }

    private void Charge(int cost)
    {
        _cost += cost;
        keptByAll.Charge(cost);
    }
}
