using System.Net.Sockets;

namespace Sandbox.Egress.Proxy.Tls;

/// <summary>Tells a TLS client that it was refused, so that it says so instead of "connection reset".</summary>
internal static class TlsAlert
{
    public const byte AccessDenied = 49;
    public const byte DecodeError = 50;
    public const byte UnrecognizedName = 112;

    /// <summary>Sends a fatal alert in clear, and ends our direction. Never fails.</summary>
    public static async Task SendAsync(Socket socket, byte description, CancellationToken cancellationToken)
    {
        try
        {
            await socket.SendAsync(new byte[] { 0x15, 0x03, 0x03, 0x00, 0x02, 0x02, description }, SocketFlags.None, cancellationToken);
            socket.Shutdown(SocketShutdown.Send);
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException or OperationCanceledException)
        {
            // Whom it was for is gone.
        }
    }
}
