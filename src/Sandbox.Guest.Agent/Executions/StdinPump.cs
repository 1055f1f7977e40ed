using System.Collections.Concurrent;
using Sandbox.Guest.Agent.Channel;
using Sandbox.Guest.Agent.Platform;
using Sandbox.Guest.Protocol;

namespace Sandbox.Guest.Agent.Executions;

/// <summary>Writes what the host sends to a process's standard input, and tells the host how much was taken.</summary>
internal sealed class StdinPump
{
    private readonly BlockingCollection<(byte[] Data, bool Eof)> _queue = [];
    private readonly ulong _stream;
    private readonly int _fd;
    private readonly bool _terminal;
    private readonly Outbox _outbox;
    private readonly EventLog _events;
    private ulong _received;
    private ulong _written;
    private bool _eof;

    public StdinPump(ulong stream, int fd, bool terminal, Outbox outbox, EventLog events)
    {
        (_stream, _fd, _terminal, _outbox, _events) = (stream, fd, terminal, outbox, events);
        new Thread(Run, 128 * 1024) { IsBackground = true, Name = "stdin" }.Start();
    }

    /// <summary>Takes data from the host. What it has had before (a repeat after a reconnection) is dropped.</summary>
    public void Offer(StdinData data)
    {
        if (_eof || data.Offset > _received || data.Data.Length > ProtocolLimits.MaxOutputBytes)
        {
            return;
        }

        var skip = (int)Math.Min(_received - data.Offset, (ulong)data.Data.Length);
        var fresh = data.Data.Span[skip..].ToArray();
        _received += (ulong)fresh.Length;
        _eof = data.Eof;
        if (fresh.Length > 0 || data.Eof)
        {
            _queue.Add((fresh, data.Eof));
        }
    }

    /// <summary>Repeats the credit to a host that has just reconnected.</summary>
    public void RepeatCredit() => SendCredit();

    /// <summary>No more will be taken.</summary>
    public void Stop() => _queue.CompleteAdding();

    private void SendCredit() => _outbox.Send(new Frame { Stream = _stream, StdinCredit = new StdinCredit { Offset = _written } });

    private void Run()
    {
        var open = true;
        foreach (var (data, eof) in _queue.GetConsumingEnumerable())
        {
            if (open && data.Length > 0 && !Descriptors.Write(_fd, data))
            {
                open = false;
                _events.Add(new ExecutionEvent { StdinClosed = new StdinClosed() });
            }

            _written += (ulong)data.Length;
            SendCredit();
            if (eof)
            {
                if (_terminal)
                {
                    // A terminal has no end; control-D says it.
                    Descriptors.Write(_fd, [4]);
                    continue;
                }

                break;
            }
        }

        if (!_terminal)
        {
            Native.Close(_fd);
        }
    }
}
