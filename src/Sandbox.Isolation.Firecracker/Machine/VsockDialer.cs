using System.Globalization;
using System.Net.Sockets;
using Sandbox.Isolation.Firecracker.Api;

namespace Sandbox.Isolation.Firecracker.Machine;

/// <summary>
/// Opens a byte stream to a port inside the guest through Firecracker's socket: <c>CONNECT port</c> out, <c>OK number</c> back, each with a line feed, and then the guest's bytes. Nothing behind the
/// line is read here: it belongs to the guest's protocol, which has limits of its own.
/// </summary>
internal static class VsockDialer
{
    /// <summary>Most bytes of the answer: "OK ", ten digits, a line feed.</summary>
    private const int MaxAnswer = 14;

    /// <summary>Connects once.</summary>
    /// <param name="path">Host end of the device.</param>
    /// <param name="port">Port the agent listens at.</param>
    /// <param name="deadline">How long the guest may take to accept. One whose driver is not there yet leaves the request waiting.</param>
    /// <param name="cancellationToken">Gives up.</param>
    /// <exception cref="SocketException">There is no device yet.</exception>
    /// <exception cref="IOException">Nobody listens at that port in the guest, the answer is none, or it did not come in time.</exception>
    public static async Task<NetworkStream> ConnectAsync(string path, uint port, TimeSpan deadline, CancellationToken cancellationToken)
    {
        var stream = await UnixConnector.ConnectAsync(path, cancellationToken);
        using var limit = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        limit.CancelAfter(deadline);
        try
        {
            await stream.WriteAsync(System.Text.Encoding.ASCII.GetBytes(string.Create(CultureInfo.InvariantCulture, $"CONNECT {port}\n")), limit.Token);
            await ReadAnswerAsync(stream, port, limit.Token);
            return stream;
        }
        catch (OperationCanceledException) when (!cancellationToken.IsCancellationRequested)
        {
            await stream.DisposeAsync();
            throw new IOException($"The guest did not accept a connection to its port {port} within {deadline.TotalSeconds:0.#} s.");
        }
        catch
        {
            await stream.DisposeAsync();
            throw;
        }
    }

    /// <summary>Connects again and again, until the agent listens or the token ends it.</summary>
    public static async Task<NetworkStream> ConnectUntilAcceptedAsync(string path, uint port, TimeSpan deadline, CancellationToken cancellationToken)
    {
        while (true)
        {
            try
            {
                return await ConnectAsync(path, port, deadline, cancellationToken);
            }
            catch (Exception e) when (e is IOException or SocketException)
            {
                await Task.Delay(TimeSpan.FromMilliseconds(10), cancellationToken);
            }
        }
    }

    private static async Task ReadAnswerAsync(NetworkStream stream, uint port, CancellationToken cancellationToken)
    {
        // Byte by byte: what follows the line must stay in the stream.
        var answer = new byte[MaxAnswer];
        for (var length = 0; length < MaxAnswer; length++)
        {
            if (await stream.ReadAsync(answer.AsMemory(length, 1), cancellationToken) == 0)
            {
                throw new IOException($"Nobody listens at port {port} in the guest: the connection was closed.");
            }

            if (answer[length] == '\n')
            {
                if (IsAccepted(answer.AsSpan(0, length)))
                {
                    return;
                }

                break;
            }
        }

        throw new IOException($"The answer to a connection to the guest's port {port} is none that Firecracker gives.");
    }

    private static bool IsAccepted(ReadOnlySpan<byte> line) =>
        line.StartsWith("OK "u8) && line.Length > 3 && !line[3..].ContainsAnyExceptInRange((byte)'0', (byte)'9');
}
