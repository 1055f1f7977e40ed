namespace Sandbox.Egress.Proxy.Tls;

/// <summary>
/// Puts a ClientHello together from the records it comes in, piece by piece. Looks at each byte once, so that a guest that sends single bytes costs no more than its bytes. Not thread-safe.
/// </summary>
/// <param name="maxBytes">Most bytes of the message.</param>
internal sealed class ClientHelloReader(int maxBytes)
{
    private const int RecordHeader = 5;
    private const int MessageHeader = 4;
    private const int MaxRecord = 1 << 14;
    private readonly byte[] _header = new byte[RecordHeader];
    private int _headerLength;
    private int _recordLeft;
    private byte[] _message = new byte[512];
    private int _messageLength;

    /// <summary>What was read, once complete.</summary>
    public ClientHello? Hello { get; private set; }

    /// <summary>Why it is malformed; a sentence.</summary>
    public string Fault { get; private set; } = "";

    /// <summary>Whether bytes begin like a TLS record that holds a handshake. <see langword="null"/>: too few to tell.</summary>
    public static bool? Begins(ReadOnlySpan<byte> bytes) => bytes switch
    {
        [] => null,
        [not 0x16, ..] => false,
        [_] => null,
        [_, 0x03, ..] => true,
        _ => false,
    };

    /// <summary>Takes the next bytes. Those after the message are left alone.</summary>
    public HelloStatus Push(ReadOnlySpan<byte> bytes)
    {
        while (bytes.Length > 0)
        {
            if (_recordLeft == 0)
            {
                var take = Math.Min(RecordHeader - _headerLength, bytes.Length);
                bytes[..take].CopyTo(_header.AsSpan(_headerLength));
                _headerLength += take;
                bytes = bytes[take..];
                if (_headerLength < RecordHeader)
                {
                    return HelloStatus.Incomplete;
                }

                _headerLength = 0;
                _recordLeft = (_header[3] << 8) | _header[4];

                // Empty records of handshakes are forbidden, and would be a way to send without end.
                if (_header[0] != 0x16 || _header[1] != 0x03 || _recordLeft is 0 or > MaxRecord)
                {
                    return Malformed("A TLS record of the ClientHello is not well-formed.");
                }
            }

            var length = Math.Min(_recordLeft, bytes.Length);
            if (!Append(bytes[..length]))
            {
                return Malformed($"The ClientHello is longer than {maxBytes} bytes.");
            }

            _recordLeft -= length;
            bytes = bytes[length..];
            if (Check() is var status and not HelloStatus.Incomplete)
            {
                return status;
            }
        }

        return HelloStatus.Incomplete;
    }

    private HelloStatus Check()
    {
        if (_messageLength < MessageHeader)
        {
            return HelloStatus.Incomplete;
        }

        var stated = (_message[1] << 16) | (_message[2] << 8) | _message[3];
        if (_message[0] != 0x01)
        {
            return Malformed("The first TLS message is no ClientHello.");
        }

        if (stated > maxBytes - MessageHeader)
        {
            return Malformed($"The ClientHello is longer than {maxBytes} bytes.");
        }

        if (_messageLength < MessageHeader + stated)
        {
            return HelloStatus.Incomplete;
        }

        // A second message in the same record would be one that we looked at the first of only.
        if (_messageLength > MessageHeader + stated || _recordLeft > 0)
        {
            return Malformed("Another message follows the ClientHello in its record.");
        }

        Hello = ClientHelloParser.Parse(_message.AsSpan(MessageHeader, stated), out var fault);
        return Hello is null ? Malformed(fault) : HelloStatus.Complete;
    }

    private bool Append(ReadOnlySpan<byte> bytes)
    {
        if (_messageLength + bytes.Length > maxBytes)
        {
            return false;
        }

        if (_messageLength + bytes.Length > _message.Length)
        {
            Array.Resize(ref _message, Math.Min(maxBytes, Math.Max(_message.Length * 2, _messageLength + bytes.Length)));
        }

        bytes.CopyTo(_message.AsSpan(_messageLength));
        _messageLength += bytes.Length;
        return true;
    }

    private HelloStatus Malformed(string fault)
    {
        Fault = fault;
        return HelloStatus.Malformed;
    }
}
