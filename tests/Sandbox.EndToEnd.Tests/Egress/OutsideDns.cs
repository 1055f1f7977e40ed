using System.Buffers.Binary;
using System.Collections.Concurrent;
using System.Net;
using System.Net.Sockets;
using System.Text;

namespace Sandbox.EndToEnd.Tests.Egress;

/// <summary>A name server outside: answers A for the names it was given, in the order of their answers, and notes what it was asked.</summary>
internal sealed class OutsideDns : IDisposable
{
    private readonly Socket _socket;
    private readonly ConcurrentDictionary<string, ConcurrentQueue<IPAddress>> _answers = new(StringComparer.OrdinalIgnoreCase);

    public OutsideDns(OutsideNamespace outside, IPAddress address)
    {
        _socket = outside.Make(() =>
        {
            var socket = new Socket(AddressFamily.InterNetwork, SocketType.Dgram, ProtocolType.Udp);
            socket.Bind(new IPEndPoint(address, 53));
            return socket;
        });
        _ = ServeAsync();
    }

    /// <summary>Names that were asked for.</summary>
    public ConcurrentQueue<string> Asked { get; } = new();

    /// <summary>What a name leads to. Several: one after another, the last for ever.</summary>
    public void Set(string name, params string[] addresses) => _answers[name] = new(addresses.Select(IPAddress.Parse));

    public void Dispose() => _socket.Dispose();

    private async Task ServeAsync()
    {
        var buffer = new byte[1500];
        try
        {
            while (true)
            {
                var got = await _socket.ReceiveFromAsync(buffer, SocketFlags.None, new IPEndPoint(IPAddress.Any, 0));
                if (got.ReceivedBytes > 17)
                {
                    await _socket.SendToAsync(Answer(buffer.AsSpan(0, got.ReceivedBytes)), SocketFlags.None, got.RemoteEndPoint);
                }
            }
        }
        catch (Exception e) when (e is ObjectDisposedException or SocketException)
        {
            // The test is over.
        }
    }

    private byte[] Answer(ReadOnlySpan<byte> query)
    {
        var name = new StringBuilder();
        var at = 12;
        while (query[at] != 0)
        {
            name.Append(name.Length > 0 ? "." : "").Append(Encoding.ASCII.GetString(query.Slice(at + 1, query[at])));
            at += query[at] + 1;
        }

        var type = BinaryPrimitives.ReadUInt16BigEndian(query[(at + 1)..]);
        var question = query[12..(at + 5)];
        Asked.Enqueue(name.ToString());
        IPAddress? address = null;
        if (_answers.TryGetValue(name.ToString(), out var answers))
        {
            address = answers.Count > 1 && answers.TryDequeue(out var next) ? next : answers.TryPeek(out var last) ? last : null;
        }

        var found = address is not null && type == 1;
        byte[] header = [query[0], query[1], 0x81, (byte)(address is null ? 0x83 : 0x80), 0, 1, 0, (byte)(found ? 1 : 0), 0, 0, 0, 0];
        byte[] record = found ? [0xC0, 12, 0, 1, 0, 1, 0, 0, 0, 5, 0, 4, .. address!.GetAddressBytes()] : [];
        return [.. header, .. question, .. record];
    }
}
