using System.Net.Sockets;
using System.Text;

namespace Sandbox.Isolation.Firecracker.Tests.Double;

/// <summary>The agent that stands for what runs in the double's guest. The test process keeps the agents; one is in use as long as this connection to it is open.</summary>
internal sealed class AgentLink
{
    private readonly Socket _broker;

    private AgentLink(Socket broker, string path) => (_broker, Path) = (broker, path);

    /// <summary>Where it listens.</summary>
    public string Path { get; }

    /// <summary>A guest that has just booted: an agent that nobody has talked to.</summary>
    public static Task<AgentLink> NewAsync(string broker) => AskAsync(broker, "new");

    /// <summary>A guest that was saved: the very agent if it is there and in no other machine, else a new one.</summary>
    public static Task<AgentLink> ClaimAsync(string broker, string path) => AskAsync(broker, "claim " + path);

    public async Task<Stream> ConnectAsync()
    {
        var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        await socket.ConnectAsync(new UnixDomainSocketEndPoint(Path));
        return new NetworkStream(socket, ownsSocket: true);
    }

    /// <summary>Whether the test process is still there.</summary>
    public bool IsHeld => _broker.Connected;

    private static async Task<AgentLink> AskAsync(string broker, string question)
    {
        var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        await socket.ConnectAsync(new UnixDomainSocketEndPoint(broker));
        await socket.SendAsync(Encoding.UTF8.GetBytes(question + "\n"));
        var answer = new byte[256];
        var length = await socket.ReceiveAsync(answer);
        return new AgentLink(socket, Encoding.UTF8.GetString(answer, 0, length).Trim());
    }
}
