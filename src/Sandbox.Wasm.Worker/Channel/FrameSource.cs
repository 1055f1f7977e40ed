using System.Buffers.Binary;
using Google.Protobuf;
using Sandbox.Guest.Protocol;

namespace Sandbox.Wasm.Worker.Channel;

/// <summary>
/// Reads the host's frames. A host may say preamble and hello several times until it is answered, with zeros between; what is no frame is skipped to the next preamble, as docs/guest-protocol.md
/// has it, though a socket that was just made is never out of step.
/// </summary>
internal sealed class FrameSource(Stream stream)
{
    private static readonly MessageParser<Frame> Parser = Frame.Parser.WithDiscardUnknownFields(true);

    private readonly BufferedStream _input = new(stream, 64 * 1024);
    private readonly byte[] _header = new byte[sizeof(uint)];
    private readonly byte[] _body = new byte[ProtocolLimits.MaxFrameBytes];

    /// <summary>The next frame, or <see langword="null"/> at the end of the stream. A hello counts only behind a preamble.</summary>
    public async ValueTask<Frame?> ReadAsync()
    {
        var greeting = false;
        while (await FillAsync(_header).ConfigureAwait(false))
        {
            var length = BinaryPrimitives.ReadUInt32LittleEndian(_header);
            if (length is > 0 and <= ProtocolLimits.MaxFrameBytes)
            {
                if (!await FillAsync(_body.AsMemory(0, (int)length)).ConfigureAwait(false))
                {
                    return null;
                }

                if (Parse((int)length) is { } frame && frame.BodyCase == Frame.BodyOneofCase.Hello == greeting)
                {
                    return frame;
                }

                _header.AsSpan().Clear();
            }

            if (!await SkipToPreambleAsync().ConfigureAwait(false))
            {
                return null;
            }

            greeting = true;
        }

        return null;
    }

    private Frame? Parse(int length)
    {
        try
        {
            return Parser.ParseFrom(_body.AsSpan(0, length));
        }
        catch (InvalidProtocolBufferException)
        {
            return null;
        }
    }

    private async ValueTask<bool> SkipToPreambleAsync()
    {
        var window = new byte[ProtocolLimits.Preamble.Length];
        _header.CopyTo(window, window.Length - _header.Length);
        var next = new byte[1];
        while (!window.AsSpan().SequenceEqual(ProtocolLimits.Preamble))
        {
            if (!await FillAsync(next).ConfigureAwait(false))
            {
                return false;
            }

            window.AsSpan(1).CopyTo(window);
            window[^1] = next[0];
        }

        return true;
    }

    private async ValueTask<bool> FillAsync(Memory<byte> buffer) =>
        await _input.ReadAtLeastAsync(buffer, buffer.Length, throwOnEndOfStream: false).ConfigureAwait(false) == buffer.Length;
}
