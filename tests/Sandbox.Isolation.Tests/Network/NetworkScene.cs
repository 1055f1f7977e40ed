using System.Diagnostics;
using System.Globalization;
using Sandbox.Isolation.Network;
using Sandbox.Isolation.TestSupport;
using Xunit;

namespace Sandbox.Isolation.Tests.Network;

/// <summary>A host of its own for networks, with "public" servers at addresses for documentation.</summary>
public sealed class NetworkScene : IAsyncDisposable
{
    public const string Public = DocumentationServers.First;
    public const string OtherPublic = DocumentationServers.Second;

    public static GuestNetworkOptions TestOptions { get; } = DocumentationServers.Options with { Ready = 0 };

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
