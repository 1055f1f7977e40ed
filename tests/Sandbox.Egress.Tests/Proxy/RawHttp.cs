using System.Net.Sockets;
using System.Text;

namespace Sandbox.Egress.Tests.Proxy;

/// <summary>HTTP by bytes.</summary>
internal static class RawHttp
{
    /// <summary>Sends bytes and reads all that comes until the other side ends.</summary>
    public static async Task<string> ExchangeAsync(Stream stream, string request)
    {
        await stream.WriteAsync(Encoding.Latin1.GetBytes(request));
        return await ReadAsync(stream);
    }

    /// <summary>Reads until the end, a reset, or 10 s.</summary>
    public static async Task<string> ReadAsync(Stream stream)
    {
        using var limit = new CancellationTokenSource(TimeSpan.FromSeconds(10));
        var all = new MemoryStream();
        try
        {
            await stream.CopyToAsync(all, limit.Token);
        }
        catch (Exception e) when (e is IOException or OperationCanceledException)
        {
            // What came until then.
        }

        return Encoding.Latin1.GetString(all.ToArray());
    }

    /// <summary>What one read brings; 0 for an end or a reset.</summary>
    public static async Task<int> ReadOrResetAsync(Socket socket)
    {
        using var limit = new CancellationTokenSource(TimeSpan.FromSeconds(10));
        try
        {
            return await socket.ReceiveAsync(new byte[1000], limit.Token);
        }
        catch (SocketException)
        {
            return 0;
        }
    }
}
