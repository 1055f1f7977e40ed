using System.Net;
using System.Net.Sockets;

namespace Sandbox.Egress.Proxy;

/// <summary>Dials from the host's own network. Safe for concurrent use.</summary>
/// <param name="options">Which addresses, and how long.</param>
public sealed class UpstreamDialer(ProxyOptions options) : IUpstreamDialer
{
    /// <inheritdoc/>
    public async ValueTask<Socket> ConnectAsync(IPEndPoint destination, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(destination);
        if (!options.MayReach(destination.Address))
        {
            throw new UnreachableAddressException(destination.Address);
        }

        var socket = new Socket(destination.AddressFamily, SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };
        using var limit = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        limit.CancelAfter(options.ConnectTimeout);
        try
        {
            await socket.ConnectAsync(destination, limit.Token);
            return socket;
        }
        catch (OperationCanceledException) when (!cancellationToken.IsCancellationRequested)
        {
            socket.Dispose();
            throw new TimeoutException($"{destination} did not answer within {options.ConnectTimeout.TotalSeconds:0.#} s.");
        }
        catch
        {
            socket.Dispose();
            throw;
        }
    }
}
