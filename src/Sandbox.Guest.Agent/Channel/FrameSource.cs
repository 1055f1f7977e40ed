using System.Buffers.Binary;
using Google.Protobuf;
using Sandbox.Guest.Protocol;

namespace Sandbox.Guest.Agent.Channel;

/// <summary>
/// Reads frames, and finds its way back after a cut: anything that is no frame makes it look for the next preamble. A <see cref="Hello"/> counts
/// only right behind a preamble, and nothing else counts there. See docs/guest-protocol.md.
/// </summary>
internal sealed class FrameSource(Stream stream)
{
    private static readonly MessageParser<Frame> Parser = Frame.Parser.WithDiscardUnknownFields(true);

    private readonly BufferedStream _input = new(stream, 64 * 1024);
    private readonly byte[] _body = new byte[ProtocolLimits.MaxFrameBytes];

    /// <summary>The next frame; <see langword="null"/> at the end of the stream. A <see cref="Hello"/> may come at any time.</summary>
    public Frame? Read()
    {
        Span<byte> header = stackalloc byte[sizeof(uint)];
        var greeting = false;
        while (true)
        {
            if (!Fill(header))
            {
                return null;
            }

            var length = BinaryPrimitives.ReadUInt32LittleEndian(header);
            if (length is > 0 and <= ProtocolLimits.MaxFrameBytes)
            {
                if (!Fill(_body.AsSpan(0, (int)length)))
                {
                    return null;
                }

                if (Parse((int)length) is { } frame && frame.BodyCase == Frame.BodyOneofCase.Hello == greeting)
                {
                    return frame;
                }

                header.Clear();
            }

            // The preamble itself is "no frame" too: its first four bytes are no legal length.
            if (!SkipToPreamble(header))
            {
                return null;
            }

            greeting = true;
        }
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

    private bool SkipToPreamble(ReadOnlySpan<byte> seen)
    {
        var preamble = ProtocolLimits.Preamble;
        Span<byte> window = stackalloc byte[preamble.Length];
        seen.CopyTo(window[^seen.Length..]);
        while (!window.SequenceEqual(preamble))
        {
            var next = _input.ReadByte();
            if (next < 0)
            {
                return false;
            }

            window[1..].CopyTo(window);
            window[^1] = (byte)next;
        }

        return true;
    }

    private bool Fill(Span<byte> buffer) => _input.ReadAtLeast(buffer, buffer.Length, throwOnEndOfStream: false) == buffer.Length;
}
