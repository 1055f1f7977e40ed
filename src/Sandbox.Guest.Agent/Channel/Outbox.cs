using System.Buffers;
using System.Buffers.Binary;
using Google.Protobuf;
using Sandbox.Guest.Protocol;

namespace Sandbox.Guest.Agent.Channel;

/// <summary>
/// What waits to be sent. A virtio port blocks its writer while nobody reads, so exactly one thread writes and holds no lock while it does.
/// Every connection has its own epoch here: what was meant for an earlier one is dropped, also when it is queued late.
/// </summary>
internal sealed class Outbox
{
    /// <summary>Above this many queued bytes what can be dropped (changes of a watched directory) is dropped.</summary>
    private const long Congested = 2L << 20;

    /// <summary>Above this many queued bytes no further frame is taken from the host: it must read before it asks for more.</summary>
    private const long Full = 32L << 20;

    private readonly Queue<(Frame Frame, int Size, bool Preamble)> _queue = new();
    private Stream? _stream;
    private long _bytes;
    private int _epoch;

    public Outbox() => new Thread(Run, 256 * 1024) { IsBackground = true, Name = "outbox" }.Start();

    /// <summary>The connection of now. What is sent with an older value goes nowhere.</summary>
    public int Epoch => Volatile.Read(ref _epoch);

    /// <summary>So much is queued that what can be dropped should be.</summary>
    public bool IsCongested => Interlocked.Read(ref _bytes) > Congested;

    /// <summary>From now on frames go to this stream, beginning with the preamble and this hello.</summary>
    public void Begin(Stream stream, Frame hello)
    {
        lock (_queue)
        {
            Drop();
            _stream = stream;
            Add(hello, preamble: true);
        }
    }

    /// <summary>Nobody is connected: what is sent is dropped until <see cref="Begin"/>.</summary>
    public void End()
    {
        lock (_queue)
        {
            Drop();
            _stream = null;
        }
    }

    /// <summary>Queues a frame for the connection of now.</summary>
    public void Send(Frame frame) => Send(frame, Epoch);

    /// <summary>Queues a frame, if the connection it is meant for is still that of now.</summary>
    public void Send(Frame frame, int epoch)
    {
        lock (_queue)
        {
            if (epoch == _epoch && _stream is not null)
            {
                Add(frame, preamble: false);
            }
        }
    }

    /// <summary>Waits while the host has not read what it asked for.</summary>
    public void WaitForRoom()
    {
        lock (_queue)
        {
            while (_bytes > Full)
            {
                Monitor.Wait(_queue);
            }
        }
    }

    private void Add(Frame frame, bool preamble)
    {
        var size = frame.CalculateSize();
        _queue.Enqueue((frame, size, preamble));
        _bytes += size;
        Monitor.PulseAll(_queue);
    }

    private void Drop()
    {
        Volatile.Write(ref _epoch, _epoch + 1);
        _queue.Clear();
        _bytes = 0;
        Monitor.PulseAll(_queue);
    }

    private void Run()
    {
        while (true)
        {
            (Frame Frame, int Size, bool Preamble) item;
            Stream stream;
            int epoch;
            lock (_queue)
            {
                while (_queue.Count == 0)
                {
                    Monitor.Wait(_queue);
                }

                item = _queue.Dequeue();
                stream = _stream!;
                epoch = _epoch;
            }

            Write(stream, item.Frame, item.Size, item.Preamble);
            lock (_queue)
            {
                if (epoch == _epoch)
                {
                    _bytes -= item.Size;
                    Monitor.PulseAll(_queue);
                }
            }
        }
    }

    private static void Write(Stream stream, Frame frame, int size, bool preamble)
    {
        if (size > ProtocolLimits.MaxFrameBytes)
        {
            // Never legal on the wire. Every maker of frames stays below it; this is the last line.
            return;
        }

        var lead = preamble ? ProtocolLimits.Preamble.Length : 0;
        var total = lead + sizeof(uint) + size;
        var bytes = ArrayPool<byte>.Shared.Rent(total);
        try
        {
            ProtocolLimits.Preamble[..lead].CopyTo(bytes);
            BinaryPrimitives.WriteUInt32LittleEndian(bytes.AsSpan(lead), (uint)size);
            frame.WriteTo(bytes.AsSpan(lead + sizeof(uint), size));
            stream.Write(bytes.AsSpan(0, total));
        }
        catch (Exception e) when (e is IOException or ObjectDisposedException)
        {
            // The reader notices the end too and begins again.
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(bytes);
        }
    }
}
