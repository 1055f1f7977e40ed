using System.Globalization;

namespace Sandbox.TestSupport;

/// <summary>A real Redis on a free loopback port, without persistence.</summary>
public sealed class RedisServer : IAsyncDisposable
{
    private readonly ChildServer _server;

    private RedisServer(ChildServer server, int port) => (_server, ConnectionString) = (server, string.Create(CultureInfo.InvariantCulture, $"127.0.0.1:{port}"));

    /// <summary>As StackExchange.Redis takes it.</summary>
    public string ConnectionString { get; }

    /// <summary>Starts it.</summary>
    public static async Task<RedisServer> StartAsync()
    {
        var port = ChildServer.FreePort();
        var server = await ChildServer.StartAsync(null, "redis-server", "--port", port.ToString(CultureInfo.InvariantCulture), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no");
        await server.UntilListeningAsync(port);
        return new RedisServer(server, port);
    }

    /// <inheritdoc/>
    public ValueTask DisposeAsync() => _server.DisposeAsync();
}
