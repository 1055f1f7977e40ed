using Sandbox.Guest.Agent.Executions;
using Sandbox.Guest.Agent.Platform;

namespace Sandbox.Guest.Agent.Contexts;

/// <summary>One output pipe of an interpreter, cut into the parts of each piece of code by markers.</summary>
internal sealed class MarkedOutput
{
    private readonly int _fd;
    private readonly Lock _lock = new();
    private byte[] _marker = [];
    private Action<ReadOnlyMemory<byte>>? _sink;
    private ManualResetEventSlim _done = new(true);

    public MarkedOutput(int fd)
    {
        _fd = fd;
        new Thread(Run, 192 * 1024) { IsBackground = true, Name = "marked output" }.Start();
    }

    /// <summary>What comes now goes to the sink, until the marker; then the event is set.</summary>
    public ManualResetEventSlim Begin(byte[] marker, Action<ReadOnlyMemory<byte>> sink)
    {
        lock (_lock)
        {
            (_marker, _sink, _done) = (marker, sink, new ManualResetEventSlim());
            return _done;
        }
    }

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

        lock (_lock)
        {
            if (held > 0)
            {
                _sink?.Invoke(buffer.AsMemory(0, held));
            }

            _done.Set();
        }

        Native.Close(_fd);
    }

    /// <summary>Passes on what is certain and keeps what may be the beginning of a marker; returns how much was kept.</summary>
    private int Consume(byte[] buffer, int length)
    {
        byte[] marker;
        Action<ReadOnlyMemory<byte>>? sink;
        lock (_lock)
        {
            (marker, sink) = (_marker, _sink);
        }

        var data = buffer.AsSpan(0, length);
        var at = marker.Length == 0 ? -1 : data.IndexOf(marker);
        if (at >= 0)
        {
            if (at > 0)
            {
                sink?.Invoke(buffer.AsMemory(0, at));
            }

            var rest = length - at - marker.Length;
            data[(at + marker.Length)..].CopyTo(buffer);
            lock (_lock)
            {
                // What background threads of the code print from here on belongs to nobody until the next piece begins.
                (_sink, _marker) = (null, []);
                _done.Set();
            }

            return rest > 0 ? Consume(buffer, rest) : 0;
        }

        var keep = marker.Length == 0 ? 0 : Math.Min(marker.Length - 1, length);
        while (keep > 0 && !marker.AsSpan(0, keep).SequenceEqual(data[^keep..]))
        {
            keep--;
        }

        if (length > keep)
        {
            sink?.Invoke(buffer.AsMemory(0, length - keep));
        }

        data[^keep..].CopyTo(buffer);
        return keep;
    }
}
