using Sandbox.Guest.Agent.Channel;
using Sandbox.Guest.Agent.Platform;
using Sandbox.Guest.Protocol;

namespace Sandbox.Guest.Agent.Executions;

/// <summary>
/// The events of one execution that the host has not acknowledged. Adding waits while the window is full: that is the flow control, and
/// what is kept is what a reconnected host has repeated to it.
/// </summary>
internal sealed class EventLog(ulong stream, int window, Outbox outbox)
{
    /// <summary>An execution may always keep this much, in bytes, however much the others keep.</summary>
    private const int Share = 64 * 1024;

    /// <summary>What all executions may keep together, in bytes: the guest's memory is the user's, not ours.</summary>
    private static readonly long Budget = Math.Max(16L << 20, (long)Memory.Total / 8);

    private static long _keptByAll;

    private readonly Queue<ExecutionEvent> _kept = new();
    private readonly Lock _lock = new();
    private readonly SemaphoreSlim _room = new(0);
    private int _waiting;
    private long _cost;
    private ulong _next = 1;
    private bool _open;

    /// <summary>Everything has been acknowledged and nothing will follow.</summary>
    public bool Finished { get; private set; }

    public bool Ended { get; private set; }

    private bool HasRoom => _cost < window && (_cost < Share || Interlocked.Read(ref _keptByAll) < Budget);

    /// <summary>Appends and sends an event, waiting for room. Events after the end are dropped.</summary>
    public void Add(ExecutionEvent e)
    {
        while (true)
        {
            lock (_lock)
            {
                if (Ended)
                {
                    return;
                }

                if (HasRoom)
                {
                    e.Seq = _next++;
                    Charge(EventCost.Of(e));
                    _kept.Enqueue(e);
                    Ended = e.EventCase == ExecutionEvent.EventOneofCase.Exited;
                    if (_open)
                    {
                        outbox.Send(new Frame { Stream = stream, Event = e });
                    }

                    return;
                }

                _waiting++;
            }

            _room.Wait();
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
            if (HasRoom && _waiting > 0)
            {
                _room.Release(_waiting);
                _waiting = 0;
            }
        }
    }

    /// <summary>The host has been told that the execution started: from now on events are sent, beginning with those kept until now.</summary>
    public void Open() => Replay(0);

    /// <summary>Another connection begins: nothing is sent until its host asks for the replay. Returns what can be replayed.</summary>
    public (ulong FirstKept, ulong Next) Suspend()
    {
        lock (_lock)
        {
            _open = false;
            return (_kept.TryPeek(out var first) ? first.Seq : _next, _next);
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

    private void Charge(int cost)
    {
        _cost += cost;
        Interlocked.Add(ref _keptByAll, cost);
    }
}
