using System.Collections.Concurrent;
using Sandbox.Guest.Agent.Channel;
using Sandbox.Guest.Agent.Platform;
using Sandbox.Guest.Protocol;

namespace Sandbox.Guest.Agent.Executions;

/// <summary>Writes what the host sends to a process's standard input, and tells the host how much was taken. Owns its descriptor.</summary>
internal sealed class StdinPump(ulong stream, int fd, bool terminal, Outbox outbox, EventLog events)
{
    private readonly BlockingCollection<(byte[] Data, bool Eof)> _queue = [];
    private readonly Lock _lock = new();
    private bool _writing;
    private ulong _received;
    private ulong _written;
    private ulong _credited;
    private bool _eof;

    /// <summary>Takes data from the host. What it has had before (a repeat after a reconnection) is dropped.</summary>
    public void Offer(StdinData data)
    {
        lock (_lock)
        {
            if (data.Offset > _received || data.Data.Length > ProtocolLimits.MaxOutputBytes || _queue.IsAddingCompleted)
            {
                return;
            }

            // The host repeats what it has no credit for; it may have been taken long ago, and the credit lost in a cut.
            if (data.Offset < _written)
            {
                SendCredit();
            }

            var skip = (int)Math.Min(_received - data.Offset, (ulong)data.Data.Length);
            var fresh = data.Data.Span[skip..].ToArray();
            if (_eof || _received + (ulong)fresh.Length - _written > ProtocolLimits.MaxStdinUnderWay || (fresh.Length == 0 && !data.Eof))
            {
                return;
            }

            _received += (ulong)fresh.Length;
            _eof = data.Eof;
            _queue.Add((fresh, data.Eof));
            if (!_writing)
            {
                StartWriting();
            }
        }
    }

    /// <summary>Credits given on an earlier connection may not have arrived.</summary>
    public void Reconnected()
    {
        lock (_lock)
        {
            _credited = 0;
        }
    }

    /// <summary>No more will be taken.</summary>
    public void Stop()
    {
        lock (_lock)
        {
            _queue.CompleteAdding();
            if (!_writing)
            {
                _writing = true;
                Native.Close(fd);
            }
        }
    }

    private void StartWriting()
    {
        _writing = true;
        try
        {
            Threads.Start(Run, 128 * 1024, "stdin");
        }
        catch (AgentException)
        {
            // The program reads an end of file, and the host is told that it takes no more.
            _queue.CompleteAdding();
            Native.Close(fd);
            events.Add(new ExecutionEvent { StdinClosed = new StdinClosed() });
        }
    }

    private void SendCredit()
    {
        // A credit only ever grows: an equal one is a violation.
        if (_written > _credited)
        {
            _credited = _written;
            outbox.Send(new Frame { Stream = stream, StdinCredit = new StdinCredit { Offset = _written } });
        }
    }

    private void Run()
    {
        var open = true;
        foreach (var (data, eof) in _queue.GetConsumingEnumerable())
        {
            if (open && data.Length > 0 && !Descriptors.Write(fd, data))
            {
                open = false;
                events.Add(new ExecutionEvent { StdinClosed = new StdinClosed() });
            }

            lock (_lock)
            {
                _written += (ulong)data.Length;
                SendCredit();
            }

            if (eof && terminal)
            {
                // A terminal has no end; control-D says it.
                Descriptors.Write(fd, [4]);
            }
            else if (eof)
            {
                break;
            }
        }

        Native.Close(fd);
    }
}
