using System.Net;
using System.Threading.Channels;
using Microsoft.AspNetCore.Connections;

namespace Sandbox.Egress.Proxy.Http;

/// <summary>Where Kestrel takes its connections from: a queue in this process instead of a port of the host.</summary>
internal sealed class InterceptTransport : IConnectionListenerFactory, IConnectionListener
{
    // Bounded by what the sessions' limits let open; each waits for nothing but Kestrel's loop.
    private readonly Channel<ConnectionContext> _queue = Channel.CreateUnbounded<ConnectionContext>(new UnboundedChannelOptions { SingleReader = true });

    public EndPoint EndPoint { get; } = new InProcessEndPoint();

    /// <summary>Hands a connection to Kestrel. False: it was stopped.</summary>
    public bool TryAdd(ConnectionContext connection) => _queue.Writer.TryWrite(connection);

    public ValueTask<IConnectionListener> BindAsync(EndPoint endpoint, CancellationToken cancellationToken = default) => ValueTask.FromResult<IConnectionListener>(this);

    public async ValueTask<ConnectionContext?> AcceptAsync(CancellationToken cancellationToken = default)
    {
        try
        {
            return await _queue.Reader.ReadAsync(cancellationToken);
        }
        catch (ChannelClosedException)
        {
            return null;
        }
    }

    public ValueTask UnbindAsync(CancellationToken cancellationToken = default)
    {
        _queue.Writer.TryComplete();
        return ValueTask.CompletedTask;
    }

    public ValueTask DisposeAsync() => UnbindAsync();

    private sealed class InProcessEndPoint : EndPoint
    {
        public override string ToString() => "egress";
    }
}
