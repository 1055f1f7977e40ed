using System.Buffers;
using System.Buffers.Binary;
using Google.Protobuf;

namespace Sandbox.Guest.Protocol;

/// <summary>
/// Reads length-prefixed frames from a byte stream. A length outside <c>1..<see cref="ProtocolLimits.MaxFrameBytes"/></c>
/// is refused before a byte of it is buffered, so a hostile peer cannot make the reader allocate.
/// </summary>
public sealed class FrameReader(Stream stream)
{
    /// <summary>Fields this version does not know are dropped: kept, they would be memory that no limit counts.</summary>
    private static readonly MessageParser<Frame> Parser = Frame.Parser.WithDiscardUnknownFields(true);

    private readonly byte[] _header = new byte[sizeof(uint)];

    /// <summary>Reads the next frame, or returns <see langword="null"/> at a clean end of the stream.</summary>
    /// <exception cref="ProtocolException">The length is out of bounds, the stream ended inside a frame, or the bytes are not a frame.</exception>
    public async ValueTask<Frame?> ReadAsync(CancellationToken cancellationToken)
    {
        var got = await stream.ReadAtLeastAsync(_header, _header.Length, throwOnEndOfStream: false, cancellationToken).ConfigureAwait(false);
        if (got == 0)
        {
            return null;
        }

        if (got < _header.Length)
        {
            throw new ProtocolException("The channel ended inside a frame header.");
        }

        var length = BinaryPrimitives.ReadUInt32LittleEndian(_header);
        if (length is 0 or > ProtocolLimits.MaxFrameBytes)
        {
            throw new ProtocolException($"A frame announces {length} bytes; allowed are 1 to {ProtocolLimits.MaxFrameBytes}.");
        }

        var buffer = ArrayPool<byte>.Shared.Rent((int)length);
        try
        {
            var body = buffer.AsMemory(0, (int)length);
            if (await stream.ReadAtLeastAsync(body, body.Length, throwOnEndOfStream: false, cancellationToken).ConfigureAwait(false) < body.Length)
            {
                throw new ProtocolException("The channel ended inside a frame.");
            }

            return Parser.ParseFrom(body.Span);
        }
        catch (InvalidProtocolBufferException e)
        {
            throw new ProtocolException("A frame does not decode: " + e.Message, e);
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(buffer);
        }
    }
}
