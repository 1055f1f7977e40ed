using System.Collections.Concurrent;
using Sandbox.Guest.Agent.Platform;

namespace Sandbox.Guest.Agent.Executions;

/// <summary>
/// Reads one output of a process on a thread of its own and hands it over as it comes. When the process has ended, what is in the pipe then
/// still belongs to it; what background children write later is read and thrown away, so that they neither block nor meet a broken pipe.
/// </summary>
internal sealed class OutputReader
{
    private const int BufferBytes = 64 * 1024;

    /// <summary>A writer of many small pieces is read at most about a thousand times a second; the first piece never waits.</summary>
    private const int SmallPiece = 2048;

    private const int MaxIdleBuffers = 4;

    /// <summary>Buffers of readers that are done, for the next: fresh memory is a page fault every 4 KiB, and each is dear where the machine is emulated.</summary>
    private static readonly ConcurrentStack<byte[]> Buffers = new();

    private readonly int _fd;
    private readonly int _ending;
    private readonly ReadOnlySpanAction _sink;
    private readonly ManualResetEventSlim _done = new();

    /// <param name="fd">Closed by the reader.</param>
    /// <param name="ending">An event descriptor that becomes readable when the process's own output is to be finished.</param>
    /// <param name="sink">Gets every piece; may block, which blocks the process in turn.</param>
    public OutputReader(int fd, int ending, ReadOnlySpanAction sink)
    {
        (_fd, _ending, _sink) = (fd, ending, sink);
    }

    public delegate void ReadOnlySpanAction(ReadOnlySpan<byte> data);

    /// <summary>Set when everything that counts has been handed over.</summary>
    public ManualResetEventSlim Done => _done;

    /// <summary>Reads to the end. For a thread of its own.</summary>
    public void Run()
    {
        var buffer = Buffers.TryPop(out var idle) ? idle : new byte[BufferBytes];
        Copy(buffer);
        if (Buffers.Count < MaxIdleBuffers)
        {
            Buffers.Push(buffer);
        }
    }

    private void Copy(byte[] buffer)
    {
        var remaining = long.MaxValue;
        var lastWasSmall = false;
        var lastAt = 0L;
        while (remaining > 0)
        {
            if (remaining == long.MaxValue && Descriptors.WaitForEither(_fd, _ending))
            {
                remaining = Native.Available(_fd);
                continue;
            }

            if (lastWasSmall && Environment.TickCount64 - lastAt <= 1)
            {
                Thread.Sleep(1);
            }

            var n = Descriptors.Read(_fd, buffer);
            if (n == 0)
            {
                Native.Close(_fd);
                _done.Set();
                return;
            }

            _sink(buffer.AsSpan(0, n));
            lastWasSmall = n < SmallPiece;
            lastAt = Environment.TickCount64;
            remaining -= remaining == long.MaxValue ? 0 : n;
        }

        _done.Set();
        while (Descriptors.Read(_fd, buffer) > 0)
        {
        }

        Native.Close(_fd);
    }
}
