using System.Collections.Concurrent;
using System.Net.Sockets;
using System.Text;
using System.Text.Json;
using Microsoft.Win32.SafeHandles;
using Sandbox.Isolation.Hosting;

namespace Sandbox.Isolation.Qemu.Qmp;

/// <summary>
/// QEMU's machine protocol over a unix socket: one JSON object a line, commands answered by id. QEMU is inside the trust boundary of its guest, so what it
/// says is bounded and checked too.
/// </summary>
public sealed class QmpClient : IAsyncDisposable
{
    private const int MaxLine = 1 << 20;
    private readonly Stream _stream;
    private readonly ConcurrentDictionary<string, TaskCompletionSource<JsonElement>> _pending = new(StringComparer.Ordinal);
    private readonly SemaphoreSlim _turn = new(1, 1);
    private readonly CancellationTokenSource _stop = new();
    private readonly Action<string, JsonElement> _onEvent;
    private Task _reading = Task.CompletedTask;
    private long _next;

    private QmpClient(Stream stream, Action<string, JsonElement> onEvent) => (_stream, _onEvent) = (stream, onEvent);

    /// <summary>Connects, reads the greeting and leaves negotiation mode.</summary>
    /// <param name="path">The socket.</param>
    /// <param name="onEvent">Called for each event with its name and data; must not throw or block.</param>
    /// <param name="cancellationToken">Ends the attempt.</param>
    public static async Task<QmpClient> ConnectAsync(string path, Action<string, JsonElement> onEvent, CancellationToken cancellationToken)
    {
        var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        try
        {
            await socket.ConnectAsync(new UnixDomainSocketEndPoint(path), cancellationToken);
        }
        catch
        {
            socket.Dispose();
            throw;
        }

        return await OpenAsync(new NetworkStream(socket, ownsSocket: true), onEvent, cancellationToken);
    }

    /// <summary>The same over a stream that is already open.</summary>
    public static async Task<QmpClient> OpenAsync(Stream stream, Action<string, JsonElement> onEvent, CancellationToken cancellationToken)
    {
        var client = new QmpClient(stream, onEvent);
        client._reading = Task.Run(client.ReadAsync, CancellationToken.None);
        try
        {
            await client.ExecuteAsync("qmp_capabilities", null, cancellationToken);
        }
        catch
        {
            await client.DisposeAsync();
            throw;
        }

        return client;
    }

    /// <summary>Runs a command and returns what it returns.</summary>
    /// <exception cref="QmpException">QEMU refused it.</exception>
    /// <exception cref="IOException">The connection is gone.</exception>
    public Task<JsonElement> ExecuteAsync(string command, object? arguments, CancellationToken cancellationToken) => ExecuteAsync(command, arguments, null, cancellationToken);

    /// <summary>The same for a command that comes with a descriptor, which QEMU gets a duplicate of. Only over a unix socket.</summary>
    /// <param name="command">Its name.</param>
    /// <param name="arguments">What it takes, or nothing.</param>
    /// <param name="file">The descriptor, or nothing.</param>
    /// <param name="cancellationToken">Gives up waiting for the answer.</param>
    /// <exception cref="QmpException">QEMU refused it.</exception>
    /// <exception cref="IOException">The connection is gone.</exception>
    public async Task<JsonElement> ExecuteAsync(string command, object? arguments, SafeFileHandle? file, CancellationToken cancellationToken)
    {
        var id = "c" + Interlocked.Increment(ref _next);
        var result = _pending[id] = new TaskCompletionSource<JsonElement>(TaskCreationOptions.RunContinuationsAsynchronously);
        try
        {
            var message = new Dictionary<string, object> { ["execute"] = command, ["id"] = id };
            if (arguments is not null)
            {
                message["arguments"] = arguments;
            }

            byte[] bytes = [.. JsonSerializer.SerializeToUtf8Bytes(message), (byte)'\n'];
            await _turn.WaitAsync(cancellationToken);
            try
            {
                if (file is null)
                {
                    await _stream.WriteAsync(bytes, CancellationToken.None);
                }
                else
                {
                    DescriptorMessage.Send(((NetworkStream)_stream).Socket.SafeHandle, bytes, file);
                }
            }
            finally
            {
                _turn.Release();
            }

            // The connection may have ended between the registration above and now; then nobody would complete it.
            if (_reading.IsCompleted && !result.Task.IsCompleted)
            {
                result.TrySetException(new IOException("QEMU's control connection is closed."));
            }

            return await result.Task.WaitAsync(cancellationToken);
        }
        finally
        {
            _pending.TryRemove(id, out _);
        }
    }

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        await _stop.CancelAsync();
        await _stream.DisposeAsync();
        await _reading;
        _stop.Dispose();
        _turn.Dispose();
    }

    private async Task ReadAsync()
    {
        var reason = "QEMU's control connection is closed.";
        try
        {
            using var reader = new StreamReader(new BoundedLines(_stream, MaxLine), Encoding.UTF8);
            while (await reader.ReadLineAsync(_stop.Token) is { } line)
            {
                if (line.Length > 0)
                {
                    using var document = JsonDocument.Parse(line);
                    Dispatch(document.RootElement.Clone());
                }
            }
        }
        catch (Exception e) when (e is IOException or JsonException or OperationCanceledException or ObjectDisposedException or InvalidOperationException)
        {
            reason = $"QEMU's control connection broke: {e.Message}";
        }

        foreach (var pending in _pending.Values)
        {
            pending.TrySetException(new IOException(reason));
        }
    }

    private void Dispatch(JsonElement message)
    {
        if (message.TryGetProperty("event", out var name))
        {
            _onEvent(name.GetString() ?? "", message.TryGetProperty("data", out var data) ? data : default);
        }
        else if (message.TryGetProperty("id", out var id) && id.ValueKind == JsonValueKind.String && _pending.TryGetValue(id.GetString()!, out var pending))
        {
            if (message.TryGetProperty("error", out var error))
            {
                pending.TrySetException(new QmpException(error.TryGetProperty("desc", out var text) ? text.GetString() ?? "?" : error.ToString()));
            }
            else
            {
                pending.TrySetResult(message.TryGetProperty("return", out var value) ? value : default);
            }
        }
    }

    /// <summary>A stream that refuses a line longer than allowed, so that a broken peer cannot fill memory.</summary>
    private sealed class BoundedLines(Stream inner, int most) : Stream
    {
        private int _length;

        public override bool CanRead => true;

        public override bool CanSeek => false;

        public override bool CanWrite => false;

        public override long Length => throw new NotSupportedException();

        public override long Position { get => throw new NotSupportedException(); set => throw new NotSupportedException(); }

        public override async ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken = default)
        {
            var n = await inner.ReadAsync(buffer, cancellationToken);
            var last = buffer.Span[..n].LastIndexOf((byte)'\n');
            _length = last < 0 ? _length + n : n - last - 1;
            return _length > most ? throw new IOException($"A message is longer than {most} bytes.") : n;
        }

        public override int Read(byte[] buffer, int offset, int count) => throw new NotSupportedException();

        public override void Flush()
        {
        }

        public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

        public override void SetLength(long value) => throw new NotSupportedException();

        public override void Write(byte[] buffer, int offset, int count) => throw new NotSupportedException();
    }
}

/// <summary>QEMU refused a command.</summary>
public sealed class QmpException(string message) : Exception(message);
