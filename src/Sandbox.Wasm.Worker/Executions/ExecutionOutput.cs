using Google.Protobuf;
using Sandbox.Guest.Protocol;
using Sandbox.Wasm.Worker.Running;
using Sandbox.Wasm.Worker.Wasi;

namespace Sandbox.Wasm.Worker.Executions;

/// <summary>
/// Standard output and error of an execution. Small pieces are held back until the next tick, so that a guest that prints byte by byte does not cost an event for each; both streams keep their
/// common order. Used by the guest's thread alone.
/// </summary>
internal sealed class ExecutionOutput(EventLog events)
{
    private const int Enough = 16 * 1024;

    private readonly byte[] _buffer = new byte[ProtocolLimits.MaxOutputBytes];
    private int _held;
    private OutputFd _fd = OutputFd.Stdout;

    public void Write(Run run, OutputFd fd, ReadOnlySpan<byte> data)
    {
        if (fd != _fd)
        {
            Flush(run);
            _fd = fd;
        }

        while (data.Length > 0)
        {
            var part = data[..Math.Min(data.Length, _buffer.Length - _held)];
            part.CopyTo(_buffer.AsSpan(_held));
            _held += part.Length;
            data = data[part.Length..];
            if (_held >= Enough)
            {
                Flush(run);
            }
        }
    }

    public void Flush(Run run)
    {
        if (_held == 0)
        {
            return;
        }

        var e = new ExecutionEvent { Output = new Guest.Protocol.Output { Fd = _fd, Data = ByteString.CopyFrom(_buffer.AsSpan(0, _held)) } };
        _held = 0;
        if (!events.TryAdd(e))
        {
            run.Wait(t => events.Add(e, t));
        }
    }

    /// <summary>What is still held when the guest is over.</summary>
    public void Finish(CancellationToken cancellationToken)
    {
        if (_held > 0)
        {
            events.Add(new ExecutionEvent { Output = new Guest.Protocol.Output { Fd = _fd, Data = ByteString.CopyFrom(_buffer.AsSpan(0, _held)) } }, cancellationToken);
            _held = 0;
        }
    }

    /// <summary>A line of ours on standard error, outside of the guest's turn.</summary>
    public void Say(string line, CancellationToken cancellationToken)
    {
        Finish(cancellationToken);
        var bytes = System.Text.Encoding.UTF8.GetBytes(line + "\n");
        events.Add(new ExecutionEvent { Output = new Guest.Protocol.Output { Fd = OutputFd.Stderr, Data = ByteString.CopyFrom(bytes.AsSpan(0, Math.Min(bytes.Length, ProtocolLimits.MaxOutputBytes))) } }, cancellationToken);
    }

    /// <summary>One of the two as a guest's stream.</summary>
    public IGuestOutput On(OutputFd fd) => new Half(this, fd);

    private sealed class Half(ExecutionOutput both, OutputFd fd) : IGuestOutput
    {
        public void Write(Run run, ReadOnlySpan<byte> data) => both.Write(run, fd, data);

        public void Flush(Run run) => both.Flush(run);
    }
}
