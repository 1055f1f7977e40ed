using System.Buffers.Binary;
using System.Net.Sockets;
using Microsoft.Extensions.Logging;
using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Hosting;

namespace Sandbox.Isolation.Firecracker.Memory.Userfault;

/// <summary>
/// Whom one machine asks for its pages. Firecracker connects to a socket of ours while it loads a snapshot, sends a userfaultfd descriptor and where its memory lies, and waits for every page it touches until it is
/// served: a handler that ends leaves the machine hanging, so whoever owns the machine watches <see cref="Ended"/>.
/// </summary>
internal sealed class PageServer : IAsyncDisposable
{
    /// <summary>Most bytes of the description.</summary>
    private const int MaxDescription = 4096;
    private const int SocketLevel = 1;
    private const int PeerCredentials = 17;

    private readonly Socket _listener = new(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
    private readonly CancellationTokenSource _stop = new();
    private readonly TaskCompletionSource<string> _ended = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly MemoryFile _memory;
    private readonly long _length;
    private readonly uint? _userId;
    private readonly ILogger _logger;
    private readonly Task _serving;
    private FaultHandler? _handler;

    /// <summary>Listens at once.</summary>
    /// <param name="path">The socket.</param>
    /// <param name="memory">What is served. Must outlive this.</param>
    /// <param name="length">Its bytes.</param>
    /// <param name="userId">Who alone may connect; <see langword="null"/> for this program's own user.</param>
    /// <param name="logger">Where a handler that fails is logged.</param>
    public PageServer(string path, MemoryFile memory, long length, uint? userId, ILogger logger)
    {
        (_memory, _length, _userId, _logger) = (memory, length, userId, logger);
        try
        {
            _listener.Bind(new UnixDomainSocketEndPoint(path));

            // The directory keeps others out.
            File.SetUnixFileMode(path, (UnixFileMode)0b110_110_110);
            _listener.Listen(1);
        }
        catch
        {
            _listener.Dispose();
            throw;
        }

        _serving = ServeAsync();
    }

    /// <summary>Completes with a reason when no more pages are served although nobody has asked for the end.</summary>
    public Task<string> Ended => _ended.Task;

    /// <summary>Pages that were put in place.</summary>
    public long Served => _handler?.Served ?? 0;

    public async ValueTask DisposeAsync()
    {
        await _stop.CancelAsync();
        _handler?.Stop();
        await _serving;
        _listener.Dispose();
        _stop.Dispose();
    }

    private async Task ServeAsync()
    {
        try
        {
            using var socket = await _listener.AcceptAsync(_stop.Token);
            RequirePeer(socket);
            using var handler = await ReceiveAsync(socket);
            _handler = handler;
            if (_stop.IsCancellationRequested)
            {
                return;
            }

            // A thread of its own: it waits for the kernel all its life.
            await Task.Factory.StartNew(handler.Run, _stop.Token, TaskCreationOptions.LongRunning, TaskScheduler.Default);
            if (!_stop.IsCancellationRequested)
            {
                _ended.TrySetResult("its process gave up its memory");
            }
        }
        catch (OperationCanceledException)
        {
            // Nobody came, or the machine is gone.
        }
        catch (Exception e) when (e is IOException or InvalidDataException or SocketException or IsolationException or UnauthorizedAccessException)
        {
            _logger.LogWarning(e, "The memory of a microVM cannot be served any more");
            _ended.TrySetResult($"its memory could not be served: {e.Message}");
        }
    }

    private async Task<FaultHandler> ReceiveAsync(Socket socket)
    {
        // Wait without a thread, then receive at once: the description is one message.
        await socket.ReceiveAsync(Memory<byte>.Empty, SocketFlags.None, _stop.Token);
        var buffer = new byte[MaxDescription];
        var (length, descriptors) = DescriptorMessage.Receive(socket.SafeHandle, buffer);
        try
        {
            if (descriptors.Count != 1)
            {
                throw new InvalidDataException($"The description of the memory came with {descriptors.Count} descriptors instead of one.");
            }

            return new FaultHandler(descriptors[0], _memory.File, UserfaultRegion.Parse(buffer.AsSpan(0, length), _length));
        }
        catch
        {
            foreach (var descriptor in descriptors)
            {
                descriptor.Dispose();
            }

            throw;
        }
    }

    private void RequirePeer(Socket socket)
    {
        // struct ucred: pid, uid, gid.
        Span<byte> credentials = stackalloc byte[12];
        var length = socket.GetRawSocketOption(SocketLevel, PeerCredentials, credentials);
        var user = BinaryPrimitives.ReadUInt32LittleEndian(credentials[4..]);
        if (_userId is { } expected && (length < credentials.Length || user != expected))
        {
            throw new IsolationException($"user {user} asked for the memory of a machine of user {expected}");
        }
    }
}
