using System.Buffers.Binary;
using System.Net;
using System.Net.Sockets;
using Microsoft.Extensions.Logging;

namespace Sandbox.Egress.Dns;

// The sockets: how many questions at a time, how long for each, and nothing that the guest does ends the server.
public sealed partial class SessionDns
{
    private const int MaxDatagram = 1500;
    private const int MaxPending = 128;
    private const int MaxTcpConnections = 16;
    private const int MaxTcpMessage = 1024;
    private static readonly TimeSpan TcpIdle = TimeSpan.FromSeconds(10);
    private readonly List<Socket> _sockets = [];
    private readonly List<Task> _loops = [];
    private int _pending;
    private int _connections;

    /// <summary>Serves sockets; they are closed with this. May be called again, with the sockets of a network that was made anew.</summary>
    /// <param name="datagrams">A UDP socket, bound.</param>
    /// <param name="listener">A TCP socket that listens, or <see langword="null"/>.</param>
    public void Serve(Socket datagrams, Socket? listener = null)
    {
        ArgumentNullException.ThrowIfNull(datagrams);
        _opened = new();
        lock (_sockets)
        {
            ObjectDisposedException.ThrowIf(_ending.IsCancellationRequested, this);
            _sockets.Add(datagrams);
            _loops.Add(Task.Run(() => ReceiveAsync(datagrams)));
            if (listener is not null)
            {
                _sockets.Add(listener);
                _loops.Add(Task.Run(() => AcceptAsync(listener)));
            }
        }
    }

    /// <summary>Closes the sockets and waits for what is being answered.</summary>
    public async ValueTask DisposeAsync()
    {
        await _ending.CancelAsync().ConfigureAwait(false);
        Task[] loops;
        lock (_sockets)
        {
            _sockets.ForEach(s => s.Dispose());
            loops = [.. _loops];
        }

        await Task.WhenAll(loops).ConfigureAwait(false);
    }

    private async Task ReceiveAsync(Socket socket)
    {
        var buffer = new byte[MaxDatagram];
        var any = new IPEndPoint(socket.AddressFamily == AddressFamily.InterNetwork ? IPAddress.Any : IPAddress.IPv6Any, 0);
        while (!_ending.IsCancellationRequested)
        {
            try
            {
                var received = await socket.ReceiveFromAsync(buffer, SocketFlags.None, any, _ending.Token).ConfigureAwait(false);
                if (Interlocked.Increment(ref _pending) > MaxPending)
                {
                    // The asker asks again; keeping more would let one guest fill our memory while upstream is slow.
                    Interlocked.Decrement(ref _pending);
                    continue;
                }

                _ = AnswerDatagramAsync(socket, buffer.AsMemory(0, received.ReceivedBytes).ToArray(), received.RemoteEndPoint);
            }
            catch (Exception exception) when (exception is OperationCanceledException or ObjectDisposedException)
            {
                return;
            }
            catch (SocketException exception) when (exception.SocketErrorCode is SocketError.OperationAborted or SocketError.NotSocket or SocketError.Interrupted)
            {
                return;
            }
            catch (SocketException exception)
            {
                // An ICMP error that came back for an answer, or a datagram that is too long: the guest's affair. The pause keeps a socket that is broken for good from spinning.
                LogSocket(_parts.Logger, exception);
                await Task.Delay(10, CancellationToken.None).ConfigureAwait(false);
            }
        }
    }

    private async Task AnswerDatagramAsync(Socket socket, byte[] message, EndPoint from)
    {
        try
        {
            if (await AnswerAsync(message, overTcp: false, _ending.Token).ConfigureAwait(false) is { } reply)
            {
                await socket.SendToAsync(reply, SocketFlags.None, from, _ending.Token).ConfigureAwait(false);
            }
        }
        catch (Exception exception)
        {
            // One question must not end the server, whatever it stumbles over.
            LogUnlessEnding(exception);
        }
        finally
        {
            Interlocked.Decrement(ref _pending);
        }
    }

    private async Task AcceptAsync(Socket listener)
    {
        while (!_ending.IsCancellationRequested)
        {
            try
            {
                var connection = await listener.AcceptAsync(_ending.Token).ConfigureAwait(false);
                if (Interlocked.Increment(ref _connections) > MaxTcpConnections)
                {
                    Interlocked.Decrement(ref _connections);
                    connection.Dispose();
                    continue;
                }

                _ = ConverseAsync(connection);
            }
            catch (Exception exception) when (exception is OperationCanceledException or ObjectDisposedException)
            {
                return;
            }
            catch (SocketException exception) when (exception.SocketErrorCode is SocketError.OperationAborted or SocketError.NotSocket or SocketError.Interrupted or SocketError.InvalidArgument)
            {
                return;
            }
            catch (SocketException exception)
            {
                LogSocket(_parts.Logger, exception);
                await Task.Delay(10, CancellationToken.None).ConfigureAwait(false);
            }
        }
    }

    private async Task ConverseAsync(Socket connection)
    {
        try
        {
            await using var stream = new NetworkStream(connection, ownsSocket: true);
            var length = new byte[2];
            while (true)
            {
                using var idle = CancellationTokenSource.CreateLinkedTokenSource(_ending.Token);
                idle.CancelAfter(TcpIdle);
                await stream.ReadExactlyAsync(length, idle.Token).ConfigureAwait(false);
                int size = BinaryPrimitives.ReadUInt16BigEndian(length);
                if (size is < DnsQuery.HeaderBytes or > MaxTcpMessage)
                {
                    return;
                }

                var message = new byte[size];
                await stream.ReadExactlyAsync(message, idle.Token).ConfigureAwait(false);
                if (await AnswerAsync(message, overTcp: true, _ending.Token).ConfigureAwait(false) is not { } reply)
                {
                    return;
                }

                var framed = new byte[2 + reply.Length];
                BinaryPrimitives.WriteUInt16BigEndian(framed, (ushort)reply.Length);
                reply.CopyTo(framed, 2);
                using var slow = CancellationTokenSource.CreateLinkedTokenSource(_ending.Token);
                slow.CancelAfter(TcpIdle);
                await stream.WriteAsync(framed, slow.Token).ConfigureAwait(false);
            }
        }
        catch (Exception exception) when (exception is IOException or OperationCanceledException or ObjectDisposedException)
        {
            // It went away, or was idle.
        }
        catch (Exception exception)
        {
            LogUnlessEnding(exception);
        }
        finally
        {
            Interlocked.Decrement(ref _connections);
        }
    }

    private void LogUnlessEnding(Exception exception)
    {
        if (!_ending.IsCancellationRequested)
        {
            LogFailed(_parts.Logger, exception);
        }
    }

    [LoggerMessage(Level = LogLevel.Warning, Message = "The firewall could not be opened for {Name}.")]
    private static partial void LogNotOpened(ILogger logger, string name, Exception exception);

    [LoggerMessage(Level = LogLevel.Debug, Message = "A DNS socket of a session reported an error.")]
    private static partial void LogSocket(ILogger logger, Exception exception);

    [LoggerMessage(Level = LogLevel.Warning, Message = "A DNS query of a session could not be answered.")]
    private static partial void LogFailed(ILogger logger, Exception exception);
}
