using System.IO.Compression;
using System.Text;
using Sandbox.Abstractions;
using Sandbox.E2b.Connect;
using Xunit;

namespace Sandbox.E2b.Tests.Connect;

/// <summary>The envelope of streamed messages, from callers of any kind.</summary>
public sealed class FramesTests
{
    [Fact]
    public async Task Messages_come_one_by_one_however_the_bytes_are_cut()
    {
        byte[] bytes = [.. ConnectFrames.Pack(0, "first"u8), .. ConnectFrames.Pack(0, []), .. ConnectFrames.Pack(0, "third"u8)];
        await using var body = new Trickle(bytes);

        Assert.Equal("first", await ReadAsync(body));
        Assert.Equal("", await ReadAsync(body));
        Assert.Equal("third", await ReadAsync(body));
        Assert.Null(await ReadAsync(body));
    }

    [Theory]
    [InlineData(new byte[] { 0, 0, 0 })]
    [InlineData(new byte[] { 0, 0, 0, 0, 5, 1, 2 })]
    [InlineData(new byte[] { 4, 0, 0, 0, 0 })]
    [InlineData(new byte[] { 1, 0, 0, 0, 0 })]
    public async Task What_is_no_frame_is_refused(byte[] bytes)
    {
        var error = await Assert.ThrowsAsync<SandboxException>(() => ReadAsync(new MemoryStream(bytes)));
        Assert.Equal(SandboxErrorCode.InvalidArgument, error.Code);
    }

    [Fact]
    public async Task A_message_that_is_too_large_is_refused_before_it_is_read()
    {
        var error = await Assert.ThrowsAsync<SandboxException>(() => ReadAsync(new MemoryStream([0, 0xff, 0xff, 0xff, 0xff])));
        Assert.Equal(SandboxErrorCode.TooLarge, error.Code);
    }

    [Fact]
    public async Task Compressed_messages_are_read_and_bombs_are_not()
    {
        var hello = ConnectFrames.Pack(ConnectFrames.Compressed, Gzip("hello"u8.ToArray()));
        Assert.Equal("hello"u8.ToArray(), await ConnectFrames.ReadAsync(new MemoryStream(hello), gzip: true, default));

        var bomb = ConnectFrames.Pack(ConnectFrames.Compressed, Gzip(new byte[ConnectFrames.MaxMessageBytes + 1]));
        Assert.Equal(SandboxErrorCode.TooLarge, (await Assert.ThrowsAsync<SandboxException>(async () => await ConnectFrames.ReadAsync(new MemoryStream(bomb), gzip: true, default))).Code);

        var lie = ConnectFrames.Pack(ConnectFrames.Compressed, "no gzip at all"u8);
        Assert.Equal(SandboxErrorCode.InvalidArgument, (await Assert.ThrowsAsync<SandboxException>(async () => await ConnectFrames.ReadAsync(new MemoryStream(lie), gzip: true, default))).Code);
    }

    [Fact]
    public void The_last_frame_says_what_went_wrong_or_nothing()
    {
        Assert.Equal([2, 0, 0, 0, 2, .. "{}"u8], ConnectErrors.EndOfStream(null));
        Assert.Equal("""{"error":{"code":"not_found","message":"no such thing"}}""", Encoding.UTF8.GetString(ConnectErrors.EndOfStream(SandboxException.NotFound("no such thing")).AsSpan(5)));
    }

    private static async Task<string?> ReadAsync(Stream body) => await ConnectFrames.ReadAsync(body, gzip: false, default) is { } message ? Encoding.UTF8.GetString(message) : null;

    private static byte[] Gzip(byte[] data)
    {
        using var to = new MemoryStream();
        using (var gzip = new GZipStream(to, CompressionLevel.Fastest))
        {
            gzip.Write(data);
        }

        return to.ToArray();
    }

    /// <summary>A connection that gives one byte at a time.</summary>
    private sealed class Trickle(byte[] data) : MemoryStream(data)
    {
        public override ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken = default) => base.ReadAsync(buffer[..Math.Min(1, buffer.Length)], cancellationToken);
    }
}
