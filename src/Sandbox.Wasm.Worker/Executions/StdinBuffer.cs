using Sandbox.Guest.Protocol;
using Sandbox.Wasm.Worker.Channel;
using Sandbox.Wasm.Worker.Running;
using Sandbox.Wasm.Worker.Wasi;

namespace Sandbox.Wasm.Worker.Executions;

/// <summary>Standard input of a guest: what the host has sent and the guest has not read. The host gets credit as it is read.</summary>
internal sealed class StdinBuffer(ulong stream, Outbox outbox) : IGuestInput
{
    private readonly Queue<ReadOnlyMemory<byte>> _queue = new();
    private readonly Lock _lock = new();
    private readonly ManualResetEventSlim _ready = new(false);
    private ReadOnlyMemory<byte> _first;
    private ulong _received;
    private ulong _taken;
    private ulong _credited;
    private bool _eof;

    public bool Ready => _ready.IsSet;

    /// <summary>Takes data from the host. What it has had before is dropped.</summary>
    public void Offer(StdinData data)
    {
        lock (_lock)
        {
            if (data.Offset > _received || data.Data.Length > ProtocolLimits.MaxOutputBytes)
            {
                return;
            }

            if (data.Offset < _taken)
            {
                SendCredit();
            }

            var skip = (int)Math.Min(_received - data.Offset, (ulong)data.Data.Length);
            var fresh = data.Data.Memory[skip..];
            if (_eof || _received + (ulong)fresh.Length - _taken > ProtocolLimits.MaxStdinUnderWay)
            {
                return;
            }

            _received += (ulong)fresh.Length;
            _eof = data.Eof;
            if (fresh.Length > 0)
            {
                _queue.Enqueue(fresh);
            }

            if (fresh.Length > 0 || _eof)
            {
                _ready.Set();
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

    public int Read(Run run, Span<byte> data)
    {
        if (data.Length == 0)
        {
            return 0;
        }

        while (!_ready.IsSet)
        {
            if (!run.Wait(_ready.Wait))
            {
                throw new WasiException(WasiErrno.Interrupted);
            }
        }

        lock (_lock)
        {
            if (_first.IsEmpty && !_queue.TryDequeue(out _first))
            {
                return 0;
            }

            var n = Math.Min(data.Length, _first.Length);
            _first.Span[..n].CopyTo(data);
            _first = _first[n..];
            _taken += (ulong)n;
            SendCredit();
            if (_first.IsEmpty && _queue.Count == 0 && !_eof)
            {
                _ready.Reset();
            }

            return n;
        }
    }

    public void WaitUntilReady(TimeSpan most, CancellationToken cancellationToken) => _ready.Wait(most, cancellationToken);

    private void SendCredit()
    {
        // A credit only ever grows: an equal one is a violation.
        if (_taken > _credited)
        {
            _credited = _taken;
            outbox.Send(new Frame { Stream = stream, StdinCredit = new StdinCredit { Offset = _taken } });
        }
    }
}
