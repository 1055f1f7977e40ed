using System.Net;
using System.Net.Sockets;
using System.Text;
using Sandbox.Guest.Protocol;
using Sandbox.Isolation.Guest;

namespace Sandbox.Guest.Agent.Tests;

/// <summary>Connections to programs in the guest, through the real agent: this process listens.</summary>
public sealed class PortTests : IAsyncLifetime
{
    private static readonly CancellationToken None = CancellationToken.None;
    private readonly AgentFixture _agent = new();
    private readonly TcpListener _listener = new(IPAddress.Loopback, 0);
    private GuestConnection _guest = null!;

    private int Port => ((IPEndPoint)_listener.LocalEndpoint).Port;

    public async ValueTask InitializeAsync()
    {
        _listener.Start();
        _guest = await _agent.ConnectAsync();
    }

    public ValueTask DisposeAsync()
    {
        _listener.Dispose();
        return _agent.DisposeAsync();
    }

    [Fact]
    public async Task Bytes_go_both_ways_beyond_the_window_and_each_side_ends_for_itself()
    {
        var (port, program) = await OpenAsync();
        var sent = new byte[3_000_000];
        Random.Shared.NextBytes(sent);
        var echo = Task.Run(async () =>
        {
            // Says everything back, and one word after the end.
            await using var stream = program.GetStream();
            await stream.CopyToAsync(stream);
            await stream.WriteAsync("bye"u8.ToArray());
        });
        var writing = Task.Run(() => port.WriteAsync(sent, end: true, None).AsTask());
        var got = await ReadAllAsync(port);
        await writing.WaitAsync(AgentFixture.Patience);
        await echo.WaitAsync(AgentFixture.Patience);
        Assert.True(got.AsSpan(..^3).SequenceEqual(sent));
        Assert.Equal("bye", Encoding.ASCII.GetString(got, sent.Length, 3));
    }

    [Fact]
    public async Task A_program_that_does_not_read_holds_the_writer_up_and_one_that_is_not_read_is_held_up()
    {
        var (port, program) = await OpenAsync();
        using var patience = new CancellationTokenSource(TimeSpan.FromSeconds(2));
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => port.WriteAsync(new byte[64 << 20], false, patience.Token).AsTask());

        // What it pours out stays with it: the host is sent no more than a window, or the channel would be closed.
        var pouring = Task.Run(() => program.GetStream().WriteAsync(new byte[64 << 20]).AsTask());
        await Task.WhenAny(pouring, Task.Delay(500));
        Assert.False(pouring.IsCompleted);
        Assert.False(_guest.Closed.IsCompleted);
        await port.DisposeAsync();
        await Assert.ThrowsAsync<IOException>(() => pouring).WaitAsync(AgentFixture.Patience);
        Assert.Equal(ErrorCode.NotFound, (await Assert.ThrowsAsync<GuestException>(() => _guest.OpenPortAsync(1, None))).Code);
    }

    [Fact]
    public async Task A_program_that_goes_away_resets_the_connection_and_one_on_IPv6_is_found()
    {
        var (port, program) = await OpenAsync();
        program.Client.LingerState = new LingerOption(true, 0);
        program.Client.Close();
        await Assert.ThrowsAsync<GuestPortResetException>(() => port.ReadAsync(new byte[1], None).AsTask()).WaitAsync(AgentFixture.Patience);
        await Assert.ThrowsAsync<GuestPortResetException>(() => port.WriteAsync(new byte[1], false, None).AsTask()).WaitAsync(AgentFixture.Patience);

        if (Socket.OSSupportsIPv6)
        {
            using var six = new TcpListener(IPAddress.IPv6Loopback, 0);
            six.Start();
            await using var other = await _guest.OpenPortAsync(((IPEndPoint)six.LocalEndpoint).Port, None);
            using var accepted = await six.AcceptTcpClientAsync().WaitAsync(AgentFixture.Patience);
            await accepted.GetStream().WriteAsync("6"u8.ToArray());
            Assert.Equal(1, await other.ReadAsync(new byte[8], None));
        }
    }

    [Fact]
    public async Task There_are_as_many_connections_as_agreed_and_one_that_ends_makes_room()
    {
        _listener.Start(1024);
        var open = new List<IGuestPort>();
        for (var i = 0; i < ProtocolLimits.MaxPortConnections; i++)
        {
            open.Add(await _guest.OpenPortAsync(Port, None));
        }

        Assert.Equal(ErrorCode.ResourceExhausted, (await Assert.ThrowsAsync<GuestException>(() => _guest.OpenPortAsync(Port, None))).Code);
        await open[0].DisposeAsync();


        // The agent has obeyed the reset when it answers this.
        await _guest.PingAsync(None);
        for (var until = DateTime.UtcNow + AgentFixture.Patience; open[0] is not null;)
        {
            try
            {
                open[0] = await _guest.OpenPortAsync(Port, None);
                break;
            }
            catch (GuestException) when (DateTime.UtcNow < until)
            {
                await Task.Delay(20);
            }
        }

        Assert.False(_guest.Closed.IsCompleted);
    }

    [Fact]
    public async Task A_cut_ends_connections_on_both_sides()
    {
        var (port, program) = await OpenAsync();
        await _guest.ReconnectAsync(await _agent.OpenAsync(None), None);
        await Assert.ThrowsAsync<GuestUnavailableException>(() => port.ReadAsync(new byte[1], None).AsTask());
        Assert.Equal(0, await EndOfAsync(program).WaitAsync(AgentFixture.Patience));
        var (again, _) = await OpenAsync();
        await again.DisposeAsync();
    }

    private async Task<(IGuestPort Port, TcpClient Program)> OpenAsync()
    {
        var accepting = _listener.AcceptTcpClientAsync();
        var port = await _guest.OpenPortAsync(Port, None);
        return (port, await accepting.WaitAsync(AgentFixture.Patience));
    }

    private static async Task<int> EndOfAsync(TcpClient program)
    {
        try
        {
            return await program.GetStream().ReadAsync(new byte[1]);
        }
        catch (IOException)
        {
            return 0;
        }
    }

    private static async Task<byte[]> ReadAllAsync(IGuestPort port)
    {
        var all = new MemoryStream();
        var buffer = new byte[50_000];
        for (int n; (n = await port.ReadAsync(buffer, None).AsTask().WaitAsync(AgentFixture.Patience)) > 0;)
        {
            all.Write(buffer, 0, n);
        }

        return all.ToArray();
    }
}
