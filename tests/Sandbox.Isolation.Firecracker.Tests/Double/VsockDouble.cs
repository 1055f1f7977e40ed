using System.Globalization;
using System.Net.Sockets;
using System.Text;

namespace Sandbox.Isolation.Firecracker.Tests.Double;

/// <summary>
/// The host end of a socket device: takes <c>CONNECT port</c>, answers <c>OK number</c>, and passes bytes between the host and the agent while the machine runs. A snapshot makes the guest close all connections as soon
/// as it runs again.
/// </summary>
internal sealed class VsockDouble
{
    /// <summary>How long a request waits for the guest, as in Firecracker.</summary>
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(2);

    private readonly Lock _lock = new();
    private readonly List<Socket> _open = [];
    private TaskCompletionSource _running = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private bool _reset;
    private int _next = 1073741824;

    public VsockDouble(string path, uint port, AgentLink? agent)
    {
        (Path, Port, Agent) = (path, port, agent);
        _running.SetResult();
        var listener = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        try
        {
            listener.Bind(new UnixDomainSocketEndPoint(path));
        }
        catch (SocketException e)
        {
            throw new DoubleException($"Cannot bind the vsock's socket {path}: {e.Message}");
        }

        listener.Listen(16);
        _ = ListenAsync(listener);
    }

    public string Path { get; }

    public uint Port { get; }

    /// <summary>Who answers in the guest; <see langword="null"/> where nobody ever does.</summary>
    public AgentLink? Agent { get; }

    public void Pause() => _running = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);

    public void ResetAtResume() => _reset = true;

    public void Resume()
    {
        if (_reset)
        {
            _reset = false;
            lock (_lock)
            {
                _open.ForEach(s => s.Dispose());
                _open.Clear();
            }
        }

        _running.SetResult();
    }

    private async Task ListenAsync(Socket listener)
    {
        while (true)
        {
            _ = ServeAsync(await listener.AcceptAsync());
        }
    }

    private async Task ServeAsync(Socket socket)
    {
        try
        {
            await using var host = new NetworkStream(socket, ownsSocket: true);
            using var limit = new CancellationTokenSource(Patience);
            var port = await ReadPortAsync(host, limit.Token);
            await _running.Task.WaitAsync(limit.Token);
            if (port != Port || Agent is null)
            {
                // The guest refuses, or has no driver yet: either way the host sees its connection closed.
                return;
            }

            await using var guest = await Agent.ConnectAsync();
            lock (_lock)
            {
                _open.Add(socket);
            }

            await host.WriteAsync(Encoding.ASCII.GetBytes(string.Create(CultureInfo.InvariantCulture, $"OK {Interlocked.Increment(ref _next)}\n")), limit.Token);
            await Task.WhenAny(PumpAsync(host, guest), PumpAsync(guest, host));
        }
        catch (Exception e) when (e is IOException or SocketException or OperationCanceledException or ObjectDisposedException)
        {
            // One of the two is gone.
        }
    }

    private async Task PumpAsync(Stream from, Stream to)
    {
        var buffer = new byte[65536];
        for (int read; (read = await from.ReadAsync(buffer)) > 0;)
        {
            // A paused machine neither takes nor gives.
            await _running.Task;
            await to.WriteAsync(buffer.AsMemory(0, read));
        }
    }

    private static async Task<uint> ReadPortAsync(NetworkStream host, CancellationToken cancellationToken)
    {
        var line = new byte[32];
        for (var length = 0; length < line.Length; length++)
        {
            await host.ReadExactlyAsync(line.AsMemory(length, 1), cancellationToken);
            if (line[length] == '\n')
            {
                var words = Encoding.ASCII.GetString(line, 0, length).Split(' ');
                return words is ["CONNECT", var port] ? uint.Parse(port, NumberStyles.None, CultureInfo.InvariantCulture) : throw new IOException("no CONNECT");
            }
        }

        throw new IOException("too long a line");
    }
}
