using System.Net;
using System.Net.Sockets;

namespace Sandbox.TestSupport;

/// <summary>A Redis of a test's own: a free port of the loopback, nothing on disk. <c>await using</c> it; it also ends with the test process.</summary>
public sealed class RedisServer : IAsyncDisposable
{
    private static readonly TimeSpan Patience = TimeSpan.FromMinutes(1);
    private readonly ServerDirectory _directory;
    private ChildProcess? _process;

    private RedisServer(ServerDirectory directory) => _directory = directory;

    /// <summary>Why it cannot run on this machine, or null if it can.</summary>
    public static string? Missing => FindBinary() is null ? "redis-server is not installed (apt-get install redis-server)" : null;

    /// <summary>The port of the loopback.</summary>
    public int Port { get; private set; }

    /// <summary>The server's process.</summary>
    public int ProcessId => _process!.Id;

    /// <summary>For StackExchange.Redis.</summary>
    public string ConnectionString => $"127.0.0.1:{Port}";

    /// <summary>Starts a server, and returns when it answers.</summary>
    /// <exception cref="InvalidOperationException">It is not installed, or does not start; the message has its output.</exception>
    public static async Task<RedisServer> StartAsync()
    {
        var binary = FindBinary() ?? throw new InvalidOperationException(Missing);
        var server = new RedisServer(await ServerDirectory.CreateAsync("redis", user: null));
        try
        {
            for (var attempt = 1; ; attempt++)
            {
                server.Port = Loopback.FreePort();
                server._process = await ChildProcess.StartAsync(
                    [binary, "--port", $"{server.Port}", "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", server._directory.FullPath]);
                if (await server.AnswersAsync())
                {
                    return server;
                }

                var output = server._process.Output;
                await server._process.DisposeAsync();
                if (attempt == 5 || !output.Contains("Address already in use", StringComparison.Ordinal))
                {
                    throw new InvalidOperationException($"Redis did not start:{Environment.NewLine}{output}");
                }
            }
        }
        catch
        {
            await server.DisposeAsync();
            throw;
        }
    }

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        if (_process is not null)
        {
            await _process.DisposeAsync();
        }

        _directory.Dispose();
    }

    private async Task<bool> AnswersAsync()
    {
        using var patience = new CancellationTokenSource(Patience);
        while (!_process!.Exited.IsCompleted)
        {
            try
            {
                using var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
                await socket.ConnectAsync(new IPEndPoint(IPAddress.Loopback, Port), patience.Token);
                await socket.SendAsync("PING\r\n"u8.ToArray(), patience.Token);
                var answer = new byte[16];
                if (answer.AsSpan(0, await socket.ReceiveAsync(answer, patience.Token)).StartsWith("+PONG"u8))
                {
                    return true;
                }
            }
            catch (SocketException)
            {
                // Not listening yet.
            }

            await Task.WhenAny(_process.Exited, Task.Delay(20, patience.Token));
            patience.Token.ThrowIfCancellationRequested();
        }

        return false;
    }

    private static string? FindBinary() =>
        (Environment.GetEnvironmentVariable("PATH") ?? "").Split(':', StringSplitOptions.RemoveEmptyEntries)
            .Concat(["/usr/bin", "/usr/local/bin"])
            .Select(d => Path.Combine(d, "redis-server"))
            .FirstOrDefault(File.Exists);
}
