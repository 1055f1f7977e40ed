using System.Collections.Concurrent;
using System.Diagnostics;
using System.Globalization;
using System.Net;
using System.Net.Sockets;
using System.Text;
using Sandbox.Isolation.Network;
using Xunit;

namespace Sandbox.Isolation.Tests.Network;

/// <summary>A host of its own for networks, with "public" servers at addresses for documentation.</summary>
public sealed class NetworkScene : IAsyncDisposable
{
    public const string Public = "198.51.100.7";
    public const string OtherPublic = "203.0.113.9";

    public static GuestNetworkOptions TestOptions { get; } = new()
    {
        NotPublic = [.. NotPublicRanges.Default.Where(n => !n.Contains(IPAddress.Parse(Public)) && !n.Contains(IPAddress.Parse(OtherPublic)))],
        Ready = 0,
    };

    public NetworkScene(GuestNetworkOptions? options = null, GuestInterfaceKind kind = GuestInterfaceKind.Veth)
    {
        Assert.SkipUnless(Environment.IsPrivilegedProcess, "Network namespaces need root.");
        Pool = new GuestNetworkPool(HostRoot, kind, options ?? TestOptions);
    }

    public string HostRoot { get; } = Path.Combine("/run/sandbox", "test-" + Guid.NewGuid().ToString("N")[..8]);

    public string Directory => Path.Combine(HostRoot, "net");

    public GuestNetworkPool Pool { get; }

    public async ValueTask DisposeAsync()
    {
        await Pool.DisposeAsync();
        System.IO.Directory.Delete(HostRoot);
    }
}

/// <summary>A process in a namespace of its own that stands for a guest: programs are run beside it, as root, with raw sockets and all.</summary>
public sealed class FakeNetworkGuest : IDisposable
{
    private readonly Process _holder = Process.Start(new ProcessStartInfo("unshare", ["--net", "sh", "-c", "ip link set lo up; echo; read x"]) { RedirectStandardInput = true, RedirectStandardOutput = true })!;

    public FakeNetworkGuest() => _holder.StandardOutput.ReadLine();

    public int ProcessId => _holder.Id;

    /// <summary>Runs Python and returns what it printed.</summary>
    public async Task<string> PythonAsync(string code)
    {
        var start = new ProcessStartInfo("nsenter", ["--net=" + string.Create(CultureInfo.InvariantCulture, $"/proc/{ProcessId}/ns/net"), "python3", "-c", Helpers + code])
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        using var process = Process.Start(start)!;
        var errors = process.StandardError.ReadToEndAsync();
        var output = await process.StandardOutput.ReadToEndAsync();
        await process.WaitForExitAsync();
        return process.ExitCode == 0 ? output.Trim() : throw new InvalidOperationException(await errors);
    }

    /// <summary>What a TCP connection brings: the first bytes of the server, or the name of the error.</summary>
    public Task<string> ConnectAsync(string address, int port) => PythonAsync($"print(connect('{address}', {port}))");

    /// <summary>Sends whole frames.</summary>
    public Task SendFramesAsync(string frames) => PythonAsync($"send_frames({frames})");

    public void Dispose()
    {
        _holder.Kill();
        _holder.WaitForExit();
        _holder.Dispose();
    }

    private const string Helpers = """
        import errno, socket, struct, sys
        GUEST_MAC = bytes.fromhex('025342580002')
        DOOR_MAC = bytes.fromhex('025342580001')
        def connect(address, port):
            with socket.socket() as s:
                s.settimeout(20)
                try:
                    s.connect((address, port))
                    return s.recv(100).decode()
                except OSError as e:
                    return errno.errorcode.get(e.errno, str(e))
        def checksum(data):
            data += b'\0' * (len(data) % 2)
            total = sum(struct.unpack('>%dH' % (len(data) // 2), data))
            while total >> 16: total = (total & 0xffff) + (total >> 16)
            return ~total & 0xffff
        def ip(source, target, protocol, payload, flags=0):
            head = struct.pack('>BBHHHBBH4s4s', 0x45, 0, 20 + len(payload), 1, flags, 64, protocol, 0, socket.inet_aton(source), socket.inet_aton(target))
            return head[:10] + struct.pack('>H', checksum(head)) + head[12:] + payload
        def udp(port, data=b'x'): return struct.pack('>HHHH', 4000, port, 8 + len(data), 0) + data
        def ether(payload, type=0x0800, source=GUEST_MAC, target=DOOR_MAC): return target + source + struct.pack('>H', type) + payload
        def arp(mac, address, target): return struct.pack('>HHBBH6s4s6s4s', 1, 0x0800, 6, 4, 1, mac, socket.inet_aton(address), bytes(6), socket.inet_aton(target))
        def send_frames(*frames):
            with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as s:
                s.bind(('eth0', 0))
                for frame in frames: s.send(frame)

        """;
}

/// <summary>Stands where the proxy will: says to each connection where it wanted to go, and then echoes.</summary>
public sealed class FakeProxy : IDisposable
{
    private readonly IGuestNetwork _network;
    private readonly Socket _listener;
    private readonly ConcurrentBag<Socket> _connections = [];

    public FakeProxy(IGuestNetwork network, string name = "to")
    {
        (_network, _listener, Name) = (network, network.Listen(NetworkPlan.ProxyPort), name);
        _ = RunAsync();
    }

    public string Name { get; }

    public int Accepted { get; private set; }

    public void Dispose()
    {
        _listener.Dispose();
        foreach (var connection in _connections)
        {
            connection.Dispose();
        }
    }

    private async Task RunAsync()
    {
        try
        {
            while (true)
            {
                var connection = await _listener.AcceptAsync();
                _connections.Add(connection);
                Accepted++;
                _ = ServeAsync(connection);
            }
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException)
        {
            // The network is gone, or the test is over.
        }
    }

    private async Task ServeAsync(Socket connection)
    {
        using (connection)
        {
            try
            {
                await connection.SendAsync(Encoding.ASCII.GetBytes($"{Name} {_network.OriginalDestination(connection)}"));
                var buffer = new byte[1000];
                while (await connection.ReceiveAsync(buffer) is > 0 and var count)
                {
                    await connection.SendAsync(buffer.AsMemory(0, count));
                }
            }
            catch (Exception e) when (e is SocketException or ObjectDisposedException or IOException)
            {
                // The guest has gone away, or the test has ended it.
            }
        }
    }
}
