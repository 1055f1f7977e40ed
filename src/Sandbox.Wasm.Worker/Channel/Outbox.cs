using System.Buffers;
using System.Buffers.Binary;
using System.Threading.Channels;
using Google.Protobuf;
using Sandbox.Guest.Protocol;

namespace Sandbox.Wasm.Worker.Channel;

/// <summary>What waits to be sent to one machine's host. No thread of its own: there may be a thousand machines.</summary>
internal sealed class Outbox(Stream stream)
{
    /// <summary>Above this many queued bytes what can be dropped (changes of a watched directory) is dropped.</summary>
    private const long Congested = 2L << 20;

    /// <summary>Above this many queued bytes no further frame is taken from the host: it must read before it asks for more.</summary>
    private const long Full = 32L << 20;

    private readonly Channel<(Frame Frame, int Size)> _queue = System.Threading.Channels.Channel.CreateUnbounded<(Frame, int)>(new UnboundedChannelOptions { SingleReader = true });
    private long _bytes;

    public bool IsCongested => Interlocked.Read(ref _bytes) > Congested;

    public void Send(Frame frame)
    {
        var size = frame.CalculateSize();
        if (_queue.Writer.TryWrite((frame, size)))
        {
            Interlocked.Add(ref _bytes, size);
        }
    }

    /// <summary>Nothing more is sent.</summary>
    public void End() => _queue.Writer.TryComplete();

    /// <summary>Waits while the host has not read what it asked for.</summary>
    public async ValueTask WaitForRoomAsync()
    {
        while (Interlocked.Read(ref _bytes) > Full)
        {
            await Task.Delay(5).ConfigureAwait(false);
        }
    }

    /// <summary>Sends until <see cref="End"/>, or until the host is gone.</summary>
    public async Task RunAsync()
    {
        try
        {
            await foreach (var (frame, size) in _queue.Reader.ReadAllAsync().ConfigureAwait(false))
            {
                await WriteAsync(frame, size).ConfigureAwait(false);
                Interlocked.Add(ref _bytes, -size);
            }
        }
        catch (Exception e) when (e is IOException or ObjectDisposedException)
        {
            // The reader notices the end too.
            End();
            Interlocked.Exchange(ref _bytes, 0);
        }
    }

    private async ValueTask WriteAsync(Frame frame, int size)
    {
        if (size > ProtocolLimits.MaxFrameBytes)
        {
            // Never legal on the wire. Every maker of frames stays below it; this is the last line.
            return;
        }

        var lead = frame.BodyCase == Frame.BodyOneofCase.Hello ? ProtocolLimits.Preamble.Length : 0;
        var total = lead + sizeof(uint) + size;
        var bytes = ArrayPool<byte>.Shared.Rent(total);
        try
        {
            ProtocolLimits.Preamble[..lead].CopyTo(bytes);
            BinaryPrimitives.WriteUInt32LittleEndian(bytes.AsSpan(lead), (uint)size);
            frame.WriteTo(bytes.AsSpan(lead + sizeof(uint), size));
            await stream.WriteAsync(bytes.AsMemory(0, total)).ConfigureAwait(false);
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(bytes);
        }
    }
}
