using Sandbox.Guest.Agent.Channel;
using Sandbox.Guest.Protocol;

namespace Sandbox.Guest.Agent.Executions;

/// <summary>
/// The events of one execution that the host has not acknowledged. Adding waits while the window is full: that is the flow control, and
/// what is kept is what a reconnected host has repeated to it.
/// </summary>
internal sealed class EventLog(ulong stream, int window, Outbox outbox)
{
    private readonly Queue<ExecutionEvent> _kept = new();
    private readonly Lock _lock = new();
    private readonly SemaphoreSlim _room = new(0);
    private int _waiting;
    private long _cost;
    private ulong _next = 1;
    private bool _open;

    public ulong NextSeq => _next;

    public ulong FirstKept => _kept.TryPeek(out var first) ? first.Seq : _next;

    /// <summary>Everything has been acknowledged and nothing will follow.</summary>
    public bool Finished { get; private set; }

    public bool Ended { get; private set; }

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

                if (_cost < window)
                {
                    e.Seq = _next++;
                    _cost += EventCost.Of(e);
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
                _cost -= EventCost.Of(_kept.Dequeue());
            }

            Finished = Ended && _kept.Count == 0;
            if (_cost < window && _waiting > 0)
            {
                _room.Release(_waiting);
                _waiting = 0;
            }
        }
    }

    /// <summary>The host has been told that the execution started: from now on events are sent, beginning with those kept until now.</summary>
    public void Open()
    {
        lock (_lock)
        {
            _open = true;
            foreach (var e in _kept)
            {
                outbox.Send(new Frame { Stream = stream, Event = e });
            }
        }
    }

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
}
