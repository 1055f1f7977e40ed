using System.Buffers.Binary;
using System.Collections.Concurrent;
using Google.Protobuf;
using Sandbox.Guest.Protocol;

namespace Sandbox.Guest.Agent.Channel;

/// <summary>
/// What waits to be sent. A virtio port blocks its writer while nobody reads, so exactly one thread writes and nobody else ever waits for it:
/// what is queued is bounded by the executions' windows and by the requests under way. A resynchronisation drops what belonged to the old connection.
/// </summary>
internal sealed class Outbox
{
    private readonly BlockingCollection<(Stream Stream, int Epoch, byte[] Bytes)> _queue = [];
    private volatile Stream? _stream;
    private volatile int _epoch;

    public Outbox() => new Thread(Run, 256 * 1024) { IsBackground = true, Name = "outbox" }.Start();

    /// <summary>From now on frames go to this stream, beginning with the preamble and this hello.</summary>
    public void Begin(Stream stream, Frame hello)
    {
        var epoch = Interlocked.Increment(ref _epoch);
        _stream = stream;
        byte[] frame = Serialize(hello);
        _queue.Add((stream, epoch, [.. ProtocolLimits.Preamble, .. frame]));
    }

    /// <summary>Nobody is connected: drop what is sent until <see cref="Begin"/>.</summary>
    public void End()
    {
        Interlocked.Increment(ref _epoch);
        _stream = null;
    }

    public void Send(Frame frame)
    {
        if (_stream is { } stream)
        {
            _queue.Add((stream, _epoch, Serialize(frame)));
        }
    }

    public void Respond(ulong stream, Response response) => Send(new Frame { Stream = stream, Response = response });

    private static byte[] Serialize(Frame frame)
    {
        var size = frame.CalculateSize();
        var bytes = new byte[sizeof(uint) + size];
        BinaryPrimitives.WriteUInt32LittleEndian(bytes, (uint)size);
        frame.WriteTo(bytes.AsSpan(sizeof(uint)));
        return bytes;
    }

    private void Run()
    {
        foreach (var (stream, epoch, bytes) in _queue.GetConsumingEnumerable())
        {
            if (epoch != _epoch)
            {
                continue;
            }

            try
            {
                stream.Write(bytes);
            }
            catch (Exception e) when (e is IOException or ObjectDisposedException)
            {
                // The reader notices the end too and begins again.
            }
        }
    }
}
