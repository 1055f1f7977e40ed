using System.Collections.Concurrent;
using System.Net.Sockets;
using System.Text;
using Sandbox.Isolation.Network;

namespace Sandbox.Isolation.TestSupport;

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
