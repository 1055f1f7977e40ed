using System.Buffers.Binary;
using System.Globalization;
using System.Net;
using System.Net.Sockets;
using System.Text.Json;

namespace Sandbox.Isolation.Network;

/// <summary>One network as <see cref="IGuestNetwork"/> describes it, made of a namespace, an interface and nftables. Disposing removes it and closes the listeners and datagram sockets that it gave out, not connections that they accepted.</summary>
public sealed class GuestNetwork : IGuestNetwork, IAsyncDisposable
{
    private const int OriginalDestinationOption = 80;
    private const int Backlog = 256;
    private readonly NetworkNamespace _namespace;
    private readonly List<Socket> _sockets = [];
    private readonly Lock _lock = new();
    private readonly SemaphoreSlim _turn = new(1, 1);
    private readonly Dictionary<(IPAddress Address, int Port), long> _openUntil = [];
    private Batch? _next;
    private bool _disposed;

    private GuestNetwork(NetworkNamespace made) => _namespace = made;

    /// <summary>Names the network on this host.</summary>
    public string Name => Path.GetFileName(NamespacePath);

    /// <summary>The file that holds the namespace; a VMM is started inside of it.</summary>
    public string NamespacePath => _namespace.Path;

    /// <summary>Makes one.</summary>
    /// <exception cref="IOException">It cannot be made here; nothing is left of it.</exception>
    internal static async Task<GuestNetwork> CreateAsync(string path, GuestInterfaceKind kind, GuestNetworkOptions options, CancellationToken cancellationToken)
    {
        var made = NetworkNamespace.Create(path);
        try
        {
            // A new namespace may have taken over what the host has set for itself.
            made.Set(
                ("-ipv6/conf/all/disable_ipv6", "1"), ("-ipv6/conf/default/disable_ipv6", "1"), ("ipv4/ip_forward", "0"), ("ipv4/conf/all/arp_ignore", "1"), ("ipv4/conf/all/rp_filter", "1"),
                ("ipv4/conf/all/accept_redirects", "0"), ("ipv4/conf/default/accept_redirects", "0"), ("ipv4/conf/all/send_redirects", "0"), ("ipv4/conf/default/send_redirects", "0"),
                ("ipv4/conf/all/accept_source_route", "0"), ("ipv4/conf/all/route_localnet", "0"), ("ipv4/icmp_echo_ignore_all", "1"));
            if (kind == GuestInterfaceKind.Tap)
            {
                made.Inside(TapDevice.Create);
            }

            await NetworkPrograms.RunAsync(path, "ip", ["-batch", "-"], InterfaceScript.Ours(kind), cancellationToken);
            await NetworkPrograms.RunAsync(path, "nft", ["-f", "-"], FirewallScript.Rules(options), cancellationToken);

            // A connection that this kernel has not seen begin, of a guest that was resumed elsewhere, is none. The parameter is there once nftables follows connections.
            made.Set(("-netfilter/nf_conntrack_tcp_loose", "0"));
            return new GuestNetwork(made);
        }
        catch
        {
            made.Dispose();
            throw;
        }
    }

    /// <summary>Lets a VMM's user open the tap.</summary>
    /// <exception cref="IOException">The network is gone.</exception>
    public void GiveTap(uint userId) => _namespace.Inside(() => TapDevice.Give(userId));

    /// <summary>Moves the guest's end into a container's network namespace and sets its addresses there.</summary>
    /// <param name="processId">A process of the container, known to live.</param>
    /// <param name="cancellationToken">Gives up.</param>
    /// <exception cref="IOException">The network is gone, or that has no namespace of its own.</exception>
    public async Task GiveVethAsync(int processId, CancellationToken cancellationToken)
    {
        var inside = string.Create(CultureInfo.InvariantCulture, $"/proc/{processId}/ns/net");
        using (var handle = NetworkNamespace.OpenFile(inside))
        {
            NetworkNamespace.Set(handle, ("-ipv6/conf/default/disable_ipv6", "1"));
        }

        await NetworkPrograms.RunAsync(NamespacePath, "ip", ["-batch", "-"], InterfaceScript.Move(processId), cancellationToken);
        await NetworkPrograms.RunAsync(inside, "ip", ["-batch", "-"], InterfaceScript.Theirs, cancellationToken);
    }

    /// <inheritdoc/>
    public Socket Listen(int port)
    {
        var socket = Open(SocketType.Stream, port);
        try
        {
            socket.Listen(Backlog);
            return socket;
        }
        catch (SocketException e)
        {
            socket.Dispose();
            throw new IOException($"TCP port {port} of network {Name} cannot be listened at: {e.Message}", e);
        }
    }

    /// <inheritdoc/>
    public Socket BindDatagram(int port) => Open(SocketType.Dgram, port);

    /// <inheritdoc/>
    public IPEndPoint OriginalDestination(Socket connection)
    {
        ArgumentNullException.ThrowIfNull(connection);
        Span<byte> address = stackalloc byte[16];
        try
        {
            // Level 0 is IP; the answer is a sockaddr_in.
            connection.GetRawSocketOption(0, OriginalDestinationOption, address);
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException)
        {
            throw new IOException($"The kernel does not know where a connection in network {Name} wanted to go: {e.Message}", e);
        }

        var destination = new IPEndPoint(new IPAddress(address.Slice(4, 4)), BinaryPrimitives.ReadUInt16BigEndian(address.Slice(2, 2)));
        return destination.Address.Equals(NetworkPlan.GatewayAddress)
            ? throw new IOException($"A connection in network {Name} was not redirected: the guest named the gateway itself, port {destination.Port}.")
            : destination;
    }

    /// <inheritdoc/>
    public async Task OpenAsync(IReadOnlyList<OpenEndpoint> endpoints, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(endpoints);
        _ = FirewallScript.Open(endpoints);
        Batch mine;
        lock (_lock)
        {
            mine = _next ??= new Batch();
            mine.Endpoints.AddRange(endpoints);
        }

        // A program takes milliseconds: those who ask meanwhile wait for one that does it for all of them.
        await _turn.WaitAsync(cancellationToken);
        try
        {
            bool first;
            lock (_lock)
            {
                first = !mine.Taken;
                mine.Taken = true;
                _next = _next == mine ? null : _next;
            }

            if (first)
            {
                await mine.RunAsync(() => OpenNowAsync(mine.Endpoints));
            }
        }
        finally
        {
            _turn.Release();
        }

        await mine.Done;
    }

    /// <inheritdoc/>
    public async Task ReplaceAsync(IReadOnlyList<OpenRange> ranges, IReadOnlyList<OpenEndpoint> endpoints, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(ranges);
        ArgumentNullException.ThrowIfNull(endpoints);
        var script = FirewallScript.Replace(ranges, endpoints);
        lock (_lock)
        {
            // What is opened from now on comes after this, and must not be done together with what came before.
            _next = null;
        }

        await _turn.WaitAsync(cancellationToken);
        try
        {
            var now = Environment.TickCount64;
            await RunNftAsync(script);
            _openUntil.Clear();
            Remember(endpoints, now);
        }
        finally
        {
            _turn.Release();
        }
    }

    /// <inheritdoc/>
    public async Task<NetworkDrops> ReadDropsAsync(CancellationToken cancellationToken)
    {
        var counters = new Dictionary<string, long>(StringComparer.Ordinal);
        using var answer = JsonDocument.Parse(await NetworkPrograms.RunAsync(Require(), "nft", ["-j", "list", "counters"], "", cancellationToken));
        foreach (var item in answer.RootElement.GetProperty("nftables").EnumerateArray())
        {
            if (item.TryGetProperty("counter", out var counter))
            {
                // Both tables have some of the same name.
                var name = counter.GetProperty("name").GetString()!;
                counters[name] = counters.GetValueOrDefault(name) + counter.GetProperty("packets").GetInt64();
            }
        }

        return new NetworkDrops
        {
            Tcp = counters["drop_tcp"],
            Udp = counters["drop_udp"],
            NotPublic = counters["drop_not_public"],
            Spoofed = counters["drop_spoofed"],
            Rate = counters["drop_rate"],
            Other = counters["drop_other"],
        };
    }

    /// <inheritdoc/>
    public ValueTask DisposeAsync()
    {
        List<Socket> sockets;
        lock (_lock)
        {
            _disposed = true;
            sockets = [.. _sockets];
            _sockets.Clear();
        }

        foreach (var socket in sockets)
        {
            socket.Dispose();
        }

        _namespace.Dispose();
        return ValueTask.CompletedTask;
    }

    private Socket Open(SocketType type, int port)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(port, 1);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(port, IPEndPoint.MaxPort);
        _ = Require();
        var kind = (type == SocketType.Stream ? NetworkNative.StreamSocket : NetworkNative.DatagramSocket) | NetworkNative.CloseOnExec;

        // A socket belongs to the namespace that it was made in, whoever uses it.
        var fd = _namespace.Inside(() => NetworkNative.NewSocket(NetworkNative.InterNetwork, kind, 0) is >= 0 and var made ? made : throw NetworkNative.Failed("A socket cannot be made"));
        var socket = new Socket(new SafeSocketHandle(fd, ownsHandle: true));
        try
        {
            socket.Bind(new IPEndPoint(NetworkPlan.GatewayAddress, port));
            lock (_lock)
            {
                ObjectDisposedException.ThrowIf(_disposed, this);
                _sockets.Add(socket);
            }

            return socket;
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException)
        {
            socket.Dispose();
            throw new IOException($"Port {port} of network {Name} cannot be bound: {e.Message}", e);
        }
    }

    /// <summary>Within the turn.</summary>
    private async Task OpenNowAsync(List<OpenEndpoint> endpoints)
    {
        // One that is open for longer stays so, and costs no program.
        var now = Environment.TickCount64;
        var due = endpoints.Where(e => _openUntil.GetValueOrDefault((e.Address, e.Port)) < now + (long)e.Lifetime.TotalMilliseconds).ToList();
        if (due.Count == 0)
        {
            _ = Require();
            return;
        }

        var script = FirewallScript.Open(due);
        try
        {
            await RunNftAsync(script);
        }
        catch (IOException)
        {
            // One that ran out between its addition and its removal fails all; it is gone now.
            await RunNftAsync(script);
        }

        Remember(due, now);
    }

    /// <summary><paramref name="now"/> is from before the kernel was told, so nothing is believed open that is not.</summary>
    private void Remember(IReadOnlyList<OpenEndpoint> endpoints, long now)
    {
        foreach (var (key, _) in _openUntil.Where(e => e.Value < now).ToList())
        {
            _openUntil.Remove(key);
        }

        foreach (var (address, port, lifetime) in endpoints)
        {
            _openUntil[(address, port)] = Math.Max(_openUntil.GetValueOrDefault((address, port)), now + (long)lifetime.TotalMilliseconds);
        }
    }

    private Task RunNftAsync(string script) => NetworkPrograms.RunAsync(Require(), "nft", ["-f", "-"], script);

    private string Require()
    {
        lock (_lock)
        {
            return _disposed ? throw new IOException($"Network {Name} is gone: its machine has ended.") : NamespacePath;
        }
    }

    /// <summary>Endpoints that are opened together.</summary>
    private sealed class Batch
    {
        private readonly TaskCompletionSource _done = new(TaskCreationOptions.RunContinuationsAsynchronously);

        public List<OpenEndpoint> Endpoints { get; } = [];

        public bool Taken { get; set; }

        public Task Done => _done.Task;

        public async Task RunAsync(Func<Task> work)
        {
            try
            {
                await work();
                _done.SetResult();
            }
            catch (Exception e)
            {
                _done.SetException(e);
            }
        }
    }
}
