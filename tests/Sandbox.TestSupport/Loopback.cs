using System.Net;
using System.Net.Sockets;

namespace Sandbox.TestSupport;

/// <summary>Ports on the loopback.</summary>
public static class Loopback
{
    /// <summary>A port that was free a moment ago; whoever uses it must be ready to find it taken.</summary>
    public static int FreePort()
    {
        using var listener = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        listener.Bind(new IPEndPoint(IPAddress.Loopback, 0));
        return ((IPEndPoint)listener.LocalEndPoint!).Port;
    }
}
