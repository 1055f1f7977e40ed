using System.Net.Security;
using System.Net.Sockets;

namespace Sandbox.Egress.Proxy.Connections;

/// <summary>Closes a connection so that the last of what was sent arrives: a socket that is closed with bytes unread resets the other side, which then may lose what it had not read yet.</summary>
internal static class Lingering
{
    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(2);

    /// <summary>Says that nothing more comes, and lets the reader that is at work drain the rest for a moment. Never fails; the socket is closed then.</summary>
    public static async Task CloseAsync(Socket socket, Stream? stream, CancellationToken cancellationToken)
    {
        using var limit = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        limit.CancelAfter(Limit);
        try
        {
            if (stream is SslStream tls)
            {
                await tls.ShutdownAsync().WaitAsync(limit.Token);
            }

            socket.Shutdown(SocketShutdown.Send);
            var scrap = new byte[4096];
            var left = 256 * 1024;
            while (left > 0 && await socket.ReceiveAsync(scrap, SocketFlags.None, limit.Token) is > 0 and var count)
            {
                left -= count;
            }
        }
        catch (Exception e) when (e is SocketException or IOException or ObjectDisposedException or OperationCanceledException or InvalidOperationException)
        {
            // It is closed or broken already, or the other side takes its time.
        }

        socket.Dispose();
    }
}
