using Sandbox.Guest.Agent.Executions;
using Sandbox.Guest.Agent.Platform;

namespace Sandbox.Guest.Agent.Contexts;

/// <summary>
/// One output pipe of an interpreter. Before every reply the kernel writes a marker into both of its outputs; a reader that comes to a marker stops
/// until the reply has been dealt with. So output and results keep the order in which the code made them.
/// </summary>
internal sealed class MarkedOutput
{
    private readonly int _fd;
    private readonly Lock _lock = new();
    private readonly SemaphoreSlim _atMarker = new(0);
    private readonly SemaphoreSlim _released = new(0);
    private byte[] _marker = [];
    private Action<ReadOnlyMemory<byte>>? _sink;
    private volatile bool _ended;

    public MarkedOutput(int fd, Action<ReadOnlyMemory<byte>> first, Crew crew)
    {
        (_fd, _sink) = (fd, first);
        crew.Send(Run);
    }

    /// <summary>What comes now goes to the sink, with markers like this one in it. No sink: it is thrown away.</summary>
    public void Direct(byte[] marker, Action<ReadOnlyMemory<byte>>? sink)
    {
        lock (_lock)
        {
            (_marker, _sink) = (marker, sink);
        }
    }

    /// <summary>Waits until the reader stands at the next marker. False if there will be none because the pipe has ended, or <paramref name="given"/> up.</summary>
    public bool WaitForMarker(CancellationToken given)
    {
        try
        {
            return !_ended && _atMarker.Wait(Timeout.Infinite, given) && !_ended;
        }
        catch (OperationCanceledException)
        {
            return false;
        }
    }

    /// <summary>Waits a moment for the rest of what an ended interpreter wrote; a child of it may hold the pipe open for ever.</summary>
    public void WaitForEnd(int milliseconds)
    {
        var until = Environment.TickCount64 + milliseconds;
        while (!_ended && Environment.TickCount64 < until)
        {
            _released.Release();
            _atMarker.Wait(20);
        }
    }

    /// <summary>Lets the reader go on behind the marker.</summary>
    public void Release() => _released.Release();

    private void Run()
    {
        var buffer = new byte[64 * 1024];
        var held = 0;
        while (true)
        {
            var n = Descriptors.Read(_fd, buffer.AsSpan(held));
            if (n == 0)
            {
                break;
            }

            held = Consume(buffer, held + n);
        }

        if (held > 0)
        {
            Pass(buffer.AsMemory(0, held));
        }

        _ended = true;
        _atMarker.Release();
        Native.Close(_fd);
    }

    private void Pass(ReadOnlyMemory<byte> data)
    {
        Action<ReadOnlyMemory<byte>>? sink;
        lock (_lock)
        {
            sink = _sink;
        }

        sink?.Invoke(data);
    }

    /// <summary>Passes on what is certain and keeps what may be the beginning of a marker; returns how much was kept.</summary>
    private int Consume(byte[] buffer, int length)
    {
        var start = 0;
        while (true)
        {
            byte[] marker;
            lock (_lock)
            {
                marker = _marker;
            }

            var data = buffer.AsSpan(start, length - start);
            var at = marker.Length == 0 ? -1 : data.IndexOf(marker);
            if (at < 0)
            {
                var keep = Math.Min(Math.Max(marker.Length - 1, 0), data.Length);
                while (keep > 0 && !marker.AsSpan(0, keep).SequenceEqual(data[^keep..]))
                {
                    keep--;
                }

                if (data.Length > keep)
                {
                    Pass(buffer.AsMemory(start, data.Length - keep));
                }

                data[^keep..].CopyTo(buffer);
                return keep;
            }

            if (at > 0)
            {
                Pass(buffer.AsMemory(start, at));
            }

            start += at + marker.Length;
            _atMarker.Release();
            _released.Wait();
        }
    }
}
