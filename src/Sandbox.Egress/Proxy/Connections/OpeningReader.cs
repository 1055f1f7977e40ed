using System.Net.Sockets;
using Sandbox.Egress.Proxy.Tls;

namespace Sandbox.Egress.Proxy.Connections;

/// <summary>Reads the first bytes of a connection until it is clear what it is: a bounded number of them, within a bounded time.</summary>
/// <param name="options">Bounds.</param>
/// <param name="time">Clock.</param>
internal sealed class OpeningReader(ProxyOptions options, TimeProvider time)
{
    private const int TlsPort = 443;
    private const int HttpPort = 80;

    /// <summary>Methods that a request begins with. Others exist; what begins with those is no HTTP to us and passes only where nothing is to be looked into.</summary>
    private static readonly byte[][] Methods =
        [.. new[] { "GET ", "HEAD ", "POST ", "PUT ", "DELETE ", "OPTIONS ", "PATCH ", "TRACE ", "CONNECT ", "PRI ", "PROPFIND ", "PROPPATCH ", "MKCOL ", "COPY ", "MOVE ", "LOCK ", "UNLOCK ", "REPORT ", "SEARCH " }.Select(m => System.Text.Encoding.ASCII.GetBytes(m))];

    /// <summary>Reads.</summary>
    /// <param name="socket">The connection.</param>
    /// <param name="port">The port that it is for.</param>
    /// <param name="mustBegin">The guest must be the one to begin. On ports 80 and 443 it must anyway.</param>
    /// <param name="cancellationToken">Ends the reading.</param>
    /// <exception cref="SocketException">The guest reset the connection.</exception>
    public async Task<Opening> ReadAsync(Socket socket, int port, bool mustBegin, CancellationToken cancellationToken)
    {
        // Where a client always speaks first it has the whole time for it; elsewhere the other side may be the one to begin.
        var clientBegins = mustBegin || port is TlsPort or HttpPort;
        using var total = new CancellationTokenSource(options.HeadTimeout, time);
        using var window = new CancellationTokenSource(clientBegins ? options.HeadTimeout : options.SilenceWindow, time);
        using var either = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken, total.Token);
        using var first = CancellationTokenSource.CreateLinkedTokenSource(either.Token, window.Token);
        var buffer = new byte[2048];
        var length = 0;
        ClientHelloReader? tls = null;
        while (true)
        {
            int count;
            try
            {
                count = await socket.ReceiveAsync(buffer.AsMemory(length), tls is null ? first.Token : either.Token);
            }
            catch (OperationCanceledException) when (!cancellationToken.IsCancellationRequested)
            {
                return TooLate(buffer.AsMemory(0, length), clientBegins || tls is not null);
            }

            if (count == 0)
            {
                // What was sent before the end may be all there is to a protocol; TLS and HTTP would need an answer.
                return length == 0 || tls is not null ? new Opening(OpeningKind.Gone, default) : new Opening(port == HttpPort ? OpeningKind.Http : OpeningKind.Raw, buffer.AsMemory(0, length));
            }

            var piece = buffer.AsSpan(length, count);
            length += count;
            if (tls is null)
            {
                switch (ClientHelloReader.Begins(buffer.AsSpan(0, length)))
                {
                    case true:
                        tls = new ClientHelloReader(options.HeadBytes);
                        piece = buffer.AsSpan(0, length);
                        break;
                    case false when port == HttpPort:
                        return new Opening(OpeningKind.Http, buffer.AsMemory(0, length));
                    case false when BeginsHttp(buffer.AsSpan(0, length)) is { } isHttp:
                        return new Opening(isHttp ? OpeningKind.Http : OpeningKind.Raw, buffer.AsMemory(0, length));
                }
            }

            switch (tls?.Push(piece))
            {
                case HelloStatus.Complete:
                    return new Opening(OpeningKind.Tls, buffer.AsMemory(0, length), tls.Hello);
                case HelloStatus.Malformed:
                    return new Opening(OpeningKind.Bad, buffer.AsMemory(0, length), Fault: tls.Fault);
            }

            if (length == buffer.Length)
            {
                // Records of single bytes are lawful, and six times as long as what they hold.
                if (length >= options.HeadBytes)
                {
                    return new Opening(OpeningKind.Bad, buffer.AsMemory(0, length), Fault: $"The ClientHello takes more than {options.HeadBytes} bytes.");
                }

                Array.Resize(ref buffer, Math.Min(options.HeadBytes, buffer.Length * 4));
            }
        }
    }

    private Opening TooLate(ReadOnlyMemory<byte> bytes, bool isFault)
    {
        if (isFault)
        {
            return new Opening(OpeningKind.Bad, bytes, Fault: $"Nothing that could be judged came within {options.HeadTimeout.TotalSeconds:0.#} s.");
        }

        return new Opening(bytes.IsEmpty ? OpeningKind.Silent : OpeningKind.Raw, bytes);
    }

    private static bool? BeginsHttp(ReadOnlySpan<byte> bytes)
    {
        foreach (var method in Methods)
        {
            if (bytes.StartsWith(method))
            {
                return true;
            }

            if (method.AsSpan().StartsWith(bytes))
            {
                return null;
            }
        }

        return false;
    }
}
