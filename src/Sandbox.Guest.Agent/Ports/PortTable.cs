using System.Collections.Concurrent;
using System.Net;
using System.Net.Sockets;
using Sandbox.Guest.Agent.Channel;
using Sandbox.Guest.Protocol;

namespace Sandbox.Guest.Agent.Ports;

/// <summary>Connections that the host has to programs in this guest. They end with the connection of the channel that opened them.</summary>
internal sealed class PortTable
{
    /// <summary>A listener whose backlog is full lets a connection hang; so long it is waited for.</summary>
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(5);
    private readonly ConcurrentDictionary<ulong, PortConnection> _open = new();
    private int _count;

    public PortConnection? Find(ulong stream) => _open.GetValueOrDefault(stream);

    /// <summary>Connects to a port of the loopback address. The connection says nothing until <see cref="PortConnection.Begin"/>.</summary>
    public async Task OpenAsync(ulong stream, uint port, Outbox outbox, int epoch)
    {
        if (port is 0 or > ushort.MaxValue)
        {
            throw new AgentException(ErrorCode.InvalidArgument, $"{port} is no port; there are 1 to 65535.");
        }

        if (Interlocked.Increment(ref _count) > ProtocolLimits.MaxPortConnections)
        {
            Interlocked.Decrement(ref _count);
            throw new AgentException(ErrorCode.ResourceExhausted, $"{ProtocolLimits.MaxPortConnections} connections to ports are open already; close one.");
        }

        try
        {
            var socket = await ConnectAsync((int)port).ConfigureAwait(false);
            _open[stream] = new PortConnection(stream, socket, outbox, epoch, Forget);
        }
        catch
        {
            Interlocked.Decrement(ref _count);
            throw;
        }
    }

    /// <summary>Ends all: the host that had them begins anew.</summary>
    public void CloseAll()
    {
        foreach (var connection in _open.Values)
        {
            connection.Close();
        }
    }

    private void Forget(ulong stream)
    {
        if (_open.TryRemove(stream, out _))
        {
            Interlocked.Decrement(ref _count);
        }
    }

    private static async Task<Socket> ConnectAsync(int port)
    {
        try
        {
            return await ConnectAsync(IPAddress.Loopback, port).ConfigureAwait(false);
        }
        catch (SocketException e) when (e.SocketErrorCode == SocketError.ConnectionRefused)
        {
            // Some programs listen on the loopback address of IPv6 alone.
        }

        try
        {
            return await ConnectAsync(IPAddress.IPv6Loopback, port).ConfigureAwait(false);
        }
        catch (SocketException)
        {
            throw new AgentException(ErrorCode.NotFound, $"Nobody listens on port {port} in the guest.");
        }
    }

    private static async Task<Socket> ConnectAsync(IPAddress address, int port)
    {
        var socket = new Socket(address.AddressFamily, SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };
        using var deadline = new CancellationTokenSource(Patience);
        try
        {
            await socket.ConnectAsync(new IPEndPoint(address, port), deadline.Token).ConfigureAwait(false);
            return socket;
        }
        catch (Exception e)
        {
            socket.Dispose();
            throw e is OperationCanceledException ? new AgentException(ErrorCode.NotFound, $"Port {port} in the guest takes no connections: it did not answer within {Patience.TotalSeconds:0} s.") : e;
        }
    }
}
