using System.Buffers.Binary;
using System.Net;
using System.Net.Security;
using System.Net.Sockets;
using System.Text;
using Sandbox.Egress.Proxy.Tls;
using Xunit;

namespace Sandbox.Egress.Tests.Proxy;

/// <summary>ClientHellos as real clients send them, and as nobody should.</summary>
public sealed class ClientHelloTests
{
    [Fact]
    public async Task A_real_one_is_read_however_it_is_cut()
    {
        var bytes = await RealAsync("Api.Example.COM");

        for (var piece = 1; piece < 8; piece++)
        {
            var reader = new ClientHelloReader(65536);
            var status = HelloStatus.Incomplete;
            for (var i = 0; i < bytes.Length; i += piece)
            {
                Assert.Equal(HelloStatus.Incomplete, status);
                status = reader.Push(bytes.AsSpan(i, Math.Min(piece, bytes.Length - i)));
            }

            Assert.Equal(HelloStatus.Complete, status);
            Assert.Equal(new ClientHello("api.example.com", false), reader.Hello);
        }
    }

    [Fact]
    public void One_in_many_records_is_put_together()
    {
        var message = Message(Extension(0, Name("example.com")));
        var bytes = new MemoryStream();
        foreach (var b in message)
        {
            bytes.Write(Record([b]));
        }

        Assert.Equal("example.com", Read(bytes.ToArray(), out _)?.ServerName);
    }

    [Fact]
    public void Values_that_mean_nothing_are_passed_over()
    {
        var hello = Read(Record(Message([.. Extension(0x1a1a, [0]), .. Extension(0, Name("example.com")), .. Extension(0xfafa, [])])), out _);

        Assert.Equal(new ClientHello("example.com", false), hello);
    }

    [Fact]
    public void An_encrypted_one_is_seen() => Assert.True(Read(Record(Message([.. Extension(0, Name("front.example")), .. Extension(0xfe0d, [0, 1, 2])])), out _)!.IsEncrypted);

    [Fact]
    public void One_without_a_name_has_none()
    {
        Assert.Equal(new ClientHello(null, false), Read(Record(Message([])), out _));
        Assert.Null(Read(Record(Message(Extension(0, Name("192.0.2.1")))), out _)!.ServerName);
    }

    public static TheoryData<string, byte[]> Malformed => new()
    {
        { "two names", Record(Message(Extension(0, [.. Prefixed([.. Entry("a.example"), .. Entry("b.example")])]))) },
        { "the extension twice", Record(Message([.. Extension(0, Name("a.example")), .. Extension(0, Name("b.example"))])) },
        { "not a host name", Record(Message(Extension(0, Name("a b")))) },
        { "a zero byte in the name", Record(Message(Extension(0, Name("a.example\0.b.example")))) },
        { "an empty name", Record(Message(Extension(0, Name("")))) },
        { "a list shorter than said", Record(Message(Extension(0, [0, 50, 0, 0, 1, (byte)'a']))) },
        { "an extension longer than the message", Record(Message([0, 0, 255, 255, 1])) },
        { "something after the list of names", Record(Message(Extension(0, [.. Name("a.example"), 1]))) },
        { "another message in the record", Record([.. Message([]), .. Message([])]) },
        { "no ClientHello", Record([2, 0, 0, 1, 0]) },
        { "an empty record", Record([]) },
        { "a record of another kind in between", [.. Record(Message([])[..10]), 0x17, 3, 3, 0, 1, 0] },
        { "a record too long", [0x16, 3, 1, 0xff, 0xff] },
        { "a message too long", Record([1, 0xff, 0xff, 0xff]) },
        { "an odd number of bytes of cipher suites", Record([1, 0, 0, 42, 3, 3, .. new byte[32], 0, 0, 3, 1, 2, 3, 1, 0]) },
        { "a session id too long", Record([1, 0, 0, 80, 3, 3, .. new byte[32], 33, .. new byte[33], 0, 2, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]) },
    };

    [Theory]
    [MemberData(nameof(Malformed))]
    public void What_could_be_read_in_two_ways_is_refused(string what, byte[] bytes)
    {
        Assert.Null(Read(bytes, out var status));
        Assert.True(status == HelloStatus.Malformed, what);
    }

    [Fact]
    public void No_bytes_bring_it_down()
    {
        var valid = Record(Message([.. Extension(0, Name("example.com")), .. Extension(16, [0, 3, 2, (byte)'h', (byte)'2'])]));
        var random = new Random(1);
        for (var i = 0; i < 20_000; i++)
        {
            var bytes = valid.ToArray();
            for (var n = random.Next(1, 4); n > 0; n--)
            {
                bytes[random.Next(bytes.Length)] = (byte)random.Next(256);
            }

            Read(bytes.AsSpan(0, random.Next(bytes.Length + 1)).ToArray(), out _);
        }
    }

    internal static byte[] Record(byte[] fragment) => [0x16, 3, 1, .. Prefixed(fragment)];

    internal static byte[] Message(byte[] extensions)
    {
        byte[] body = [3, 3, .. new byte[32], 0, .. Prefixed([0x13, 0x01]), 1, 0, .. Prefixed(extensions)];
        return [1, 0, (byte)(body.Length >> 8), (byte)body.Length, .. body];
    }

    internal static byte[] Extension(int type, byte[] data) => [(byte)(type >> 8), (byte)type, .. Prefixed(data)];

    internal static byte[] Name(string name) => Prefixed(Entry(name));

    private static byte[] Entry(string name) => [0, .. Prefixed(Encoding.ASCII.GetBytes(name))];

    private static byte[] Prefixed(byte[] bytes)
    {
        var all = new byte[bytes.Length + 2];
        BinaryPrimitives.WriteUInt16BigEndian(all, (ushort)bytes.Length);
        bytes.CopyTo(all, 2);
        return all;
    }

    private static ClientHello? Read(byte[] bytes, out HelloStatus status)
    {
        var reader = new ClientHelloReader(65536);
        status = reader.Push(bytes);
        return reader.Hello;
    }

    private static async Task<byte[]> RealAsync(string name)
    {
        using var listener = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        listener.Bind(new IPEndPoint(IPAddress.Loopback, 0));
        listener.Listen();
        using var client = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        await client.ConnectAsync(listener.LocalEndPoint!);
        using var server = await listener.AcceptAsync();
        await using var tls = new SslStream(new NetworkStream(client));
        var shaking = tls.AuthenticateAsClientAsync(name);
        var buffer = new byte[10_000];
        var count = await server.ReceiveAsync(buffer);
        server.Close();
        await shaking.ContinueWith(t => t.Exception, TaskScheduler.Default);
        return buffer[..count];
    }
}
