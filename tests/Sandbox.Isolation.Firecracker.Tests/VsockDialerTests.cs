using System.Net.Sockets;
using System.Text;
using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Firecracker.Machine;
using Xunit;

namespace Sandbox.Isolation.Firecracker.Tests;

/// <summary>The handshake of a connection into the guest, with the other side under our control.</summary>
public sealed class VsockDialerTests : IDisposable
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(20);
    private readonly string _folder = Directory.CreateTempSubdirectory("vsock-").FullName;
    private readonly Socket _listener = new(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);

    public VsockDialerTests()
    {
        _listener.Bind(new UnixDomainSocketEndPoint(Path_));
        _listener.Listen(8);
    }

    private static CancellationToken Ct => TestContext.Current.CancellationToken;

    private string Path_ => Path.Combine(_folder, "v");

    [Fact]
    public async Task What_follows_the_answer_belongs_to_the_guest()
    {
        var dialing = VsockDialer.ConnectAsync(Path_, 1000, Patience, Ct);
        using var device = await _listener.AcceptAsync(Ct);
        Assert.Equal("CONNECT 1000\n", await ReadAsync(device));
        await device.SendAsync("OK 1073741824\nhello"u8.ToArray());
        await using var stream = await dialing;
        var hello = new byte[5];
        await stream.ReadExactlyAsync(hello, Ct);
        Assert.Equal("hello"u8.ToArray(), hello);
    }

    [Theory]
    [InlineData("NO\n")]
    [InlineData("OK\n")]
    [InlineData("OK \n")]
    [InlineData("OK 1x\n")]
    [InlineData("OK -1\n")]
    [InlineData("ok 1\n")]
    [InlineData("OK 11111111111111111111\n")]
    [InlineData("OK 1\0\n")]
    [InlineData("\n")]
    [InlineData("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")]
    public async Task Any_other_answer_is_refused(string answer)
    {
        var dialing = VsockDialer.ConnectAsync(Path_, 1000, Patience, Ct);
        using var device = await _listener.AcceptAsync(Ct);
        await device.SendAsync(Encoding.ASCII.GetBytes(answer));
        Assert.Contains("none that Firecracker gives", (await Assert.ThrowsAsync<IOException>(() => dialing)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_closed_connection_means_that_nobody_listens()
    {
        var dialing = VsockDialer.ConnectAsync(Path_, 1000, Patience, Ct);
        using (var device = await _listener.AcceptAsync(Ct))
        {
            await ReadAsync(device);
        }

        Assert.Contains("Nobody listens", (await Assert.ThrowsAsync<IOException>(() => dialing)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_device_that_says_nothing_is_given_up_and_another_try_may_succeed()
    {
        var dialing = VsockDialer.ConnectUntilAcceptedAsync(Path_, 1000, TimeSpan.FromMilliseconds(100), Ct);
        using var silent = await _listener.AcceptAsync(Ct);
        using var second = await _listener.AcceptAsync(Ct);
        await second.SendAsync("OK 2\n"u8.ToArray());
        await using var stream = await dialing;
        Assert.NotNull(stream);
    }

    [Fact]
    public async Task A_link_in_place_of_the_socket_is_not_followed()
    {
        var link = Path.Combine(_folder, "link");
        File.CreateSymbolicLink(link, Path_);
        await Assert.ThrowsAsync<IsolationException>(() => VsockDialer.ConnectAsync(link, 1000, Patience, Ct));
    }

    public void Dispose()
    {
        _listener.Dispose();
        Directory.Delete(_folder, recursive: true);
    }

    private static async Task<string> ReadAsync(Socket socket)
    {
        var buffer = new byte[64];
        return Encoding.ASCII.GetString(buffer, 0, await socket.ReceiveAsync(buffer));
    }
}
