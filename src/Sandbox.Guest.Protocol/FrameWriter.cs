using System.Buffers;
using System.Buffers.Binary;
using Google.Protobuf;

namespace Sandbox.Guest.Protocol;

/// <summary>Writes length-prefixed frames to a byte stream, one at a time, each flushed. Safe for many callers at once.</summary>
public sealed class FrameWriter(Stream stream) : IDisposable
{
    private readonly SemaphoreSlim _turn = new(1, 1);

    /// <summary>Writes one frame whole.</summary>
    /// <exception cref="ProtocolException">The frame is larger than <see cref="ProtocolLimits.MaxFrameBytes"/>; nothing was written.</exception>
    public async ValueTask WriteAsync(Frame frame, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(frame);
        var length = frame.CalculateSize();
        if (length > ProtocolLimits.MaxFrameBytes)
        {
            throw new ProtocolException($"A frame of {length} bytes is over the limit of {ProtocolLimits.MaxFrameBytes}.");
        }

        var total = sizeof(uint) + length;
        var buffer = ArrayPool<byte>.Shared.Rent(total);
        try
        {
            BinaryPrimitives.WriteUInt32LittleEndian(buffer, (uint)length);
            frame.WriteTo(buffer.AsSpan(sizeof(uint), length));

            await _turn.WaitAsync(cancellationToken).ConfigureAwait(false);
            try
            {
                // Not cancellable: half a frame on the wire would break the channel for everybody.
                await stream.WriteAsync(buffer.AsMemory(0, total), CancellationToken.None).ConfigureAwait(false);
                await stream.FlushAsync(CancellationToken.None).ConfigureAwait(false);
            }
            finally
            {
                _turn.Release();
            }
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(buffer);
        }
    }

    /// <inheritdoc/>
    public void Dispose() => _turn.Dispose();
}
