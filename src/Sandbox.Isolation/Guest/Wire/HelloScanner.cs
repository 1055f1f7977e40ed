using System.Buffers.Binary;
using Google.Protobuf;
using Sandbox.Guest.Protocol;
using Sandbox.Isolation.Guest.Validation;

namespace Sandbox.Isolation.Guest.Wire;

/// <summary>
/// Finds the start of a connection in a stream of stale bytes: the preamble followed by a <see cref="Hello"/> with the epoch that is
/// looked for. Several places may look like it at once (an old hello, a cut one, one that data imitates); a place is given up only when its frame is whole
/// and wrong, and a whole right one wins wherever it stands. Holds at most one frame and one block.
/// </summary>
internal sealed class HelloScanner(ByteString epoch)
{
    private static readonly MessageParser<Frame> Parser = Frame.Parser.WithDiscardUnknownFields(true);

    private readonly List<int> _pending = [];
    private byte[] _buffer = new byte[64 * 1024];
    private int _count;
    private long _skipped;
    private int _wrong;
    private int _searchFrom;

    /// <summary>Room for the next read.</summary>
    public Memory<byte> Room
    {
        get
        {
            if (_buffer.Length - _count < 16 * 1024)
            {
                Array.Resize(ref _buffer, _buffer.Length * 2);
            }

            return _buffer.AsMemory(_count);
        }
    }

    /// <summary>What stood behind the hello: the beginning of the connection's own frames. Valid once <see cref="Advance"/> has returned one.</summary>
    public ReadOnlyMemory<byte> Rest { get; private set; }

    /// <summary>Takes <paramref name="bytes"/> more bytes that were read into <see cref="Room"/>; returns the hello once it is there.</summary>
    /// <exception cref="ProtocolException">The guest sends too much that is no hello.</exception>
    public Hello? Advance(int bytes)
    {
        _count += bytes;
        for (var i = 0; i < _pending.Count;)
        {
            switch (Try(_pending[i] + ProtocolLimits.Preamble.Length, out var hello, out var end))
            {
                case Verdict.Right:
                    Rest = _buffer.AsMemory(end, _count - end);
                    return hello;
                case Verdict.Wrong:
                    _pending.RemoveAt(i);
                    break;
                default:
                    i++;
                    break;
            }
        }

        while (_buffer.AsSpan(_searchFrom, _count - _searchFrom).IndexOf(ProtocolLimits.Preamble) is >= 0 and var found)
        {
            var start = _searchFrom + found;
            _searchFrom = start + 1;
            switch (Try(start + ProtocolLimits.Preamble.Length, out var hello, out var end))
            {
                case Verdict.Right:
                    Rest = _buffer.AsMemory(end, _count - end);
                    return hello;
                case Verdict.Incomplete when _pending.Count == GuestLimits.MaxWrongHellos:
                    throw new ProtocolException($"The guest began {_pending.Count} hellos and finished none.");
                case Verdict.Incomplete:
                    _pending.Add(start);
                    break;
            }
        }

        // What was searched holds no preamble, but its end may be the beginning of one.
        _searchFrom = Math.Max(_searchFrom, _count - ProtocolLimits.Preamble.Length + 1);
        Drop(_pending.Count > 0 ? Math.Min(_pending[0], _searchFrom) : _searchFrom);
        return null;
    }

    private Verdict Try(int at, out Hello? hello, out int end)
    {
        hello = null;
        end = 0;
        if (_count - at < sizeof(uint))
        {
            return Verdict.Incomplete;
        }

        var length = BinaryPrimitives.ReadUInt32LittleEndian(_buffer.AsSpan(at));
        if (length is 0 or > ProtocolLimits.MaxFrameBytes)
        {
            return Verdict.Wrong;
        }

        at += sizeof(uint);
        if (_count - at < length)
        {
            return Verdict.Incomplete;
        }

        try
        {
            var frame = Parser.ParseFrom(_buffer.AsSpan(at, (int)length));
            if (frame is { Stream: 0, BodyCase: Frame.BodyOneofCase.Hello } && frame.Hello.Epoch == epoch)
            {
                hello = frame.Hello;
                end = at + (int)length;
                return Verdict.Right;
            }
        }
        catch (InvalidProtocolBufferException)
        {
            // Not a frame: stale bytes that happen to follow a preamble.
        }

        if (++_wrong > GuestLimits.MaxWrongHellos)
        {
            throw new ProtocolException($"The guest sent {_wrong} hellos that do not answer this connection's.");
        }

        return Verdict.Wrong;
    }

    private void Drop(int bytes)
    {
        _skipped += bytes;
        if (_skipped > GuestLimits.MaxStaleBytes)
        {
            throw new ProtocolException($"The guest sent {_skipped} bytes without a hello.");
        }

        _buffer.AsSpan(bytes, _count - bytes).CopyTo(_buffer);
        _count -= bytes;
        _searchFrom -= bytes;
        for (var i = 0; i < _pending.Count; i++)
        {
            _pending[i] -= bytes;
        }
    }

    private enum Verdict
    {
        Right,
        Wrong,
        Incomplete,
    }
}
