using System.Buffers.Binary;
using System.Text;

namespace Sandbox.Egress.Tests.Proxy;

/// <summary>Just enough of HTTP/2 to say what no client says.</summary>
internal static class Http2Frames
{
    /// <summary>A connection's beginning and one GET.</summary>
    public static byte[] Request(string scheme, string authority, string path)
    {
        byte[] headers = [.. Literal(":method", "GET"), .. Literal(":scheme", scheme), .. Literal(":authority", authority), .. Literal(":path", path)];
        return [.. "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"u8, .. Frame(4, 0, 0, []), .. Frame(1, 0x5, 1, headers)];
    }

    /// <summary>The status of the first answer. Statuses that are neither of HPACK's table nor three plain digits are not understood.</summary>
    public static async Task<string> StatusAsync(Stream stream)
    {
        using var limit = new CancellationTokenSource(TimeSpan.FromSeconds(10));
        var header = new byte[9];
        while (true)
        {
            await stream.ReadExactlyAsync(header, limit.Token);
            var payload = new byte[(header[0] << 16) | (header[1] << 8) | header[2]];
            await stream.ReadExactlyAsync(payload, limit.Token);
            switch (header[3])
            {
                case 1:
                    var text = Encoding.Latin1.GetString(payload);
                    return Enumerable.Range(0, text.Length - 2).Select(i => text.Substring(i, 3)).First(s => s.All(char.IsAsciiDigit));
                case 3 or 7:
                    return $"frame {header[3]}: {Convert.ToHexString(payload)}";
            }
        }
    }

    private static byte[] Frame(byte type, byte flags, int stream, byte[] payload)
    {
        var frame = new byte[9 + payload.Length];
        BinaryPrimitives.WriteInt32BigEndian(frame, payload.Length << 8);
        (frame[3], frame[4]) = (type, flags);
        BinaryPrimitives.WriteInt32BigEndian(frame.AsSpan(5), stream);
        payload.CopyTo(frame, 9);
        return frame;
    }

    private static byte[] Literal(string name, string value) => [0, (byte)name.Length, .. Encoding.ASCII.GetBytes(name), (byte)value.Length, .. Encoding.ASCII.GetBytes(value)];
}
