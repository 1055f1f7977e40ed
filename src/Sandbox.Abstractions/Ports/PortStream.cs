using Orleans.Concurrency;

namespace Sandbox.Abstractions;

/// <summary>
/// A connection into a session as a byte stream, over its <see cref="IPortGrain"/>. One reader and one writer at a time, asynchronously only. A read that is cancelled loses nothing; after a write that is
/// cancelled the connection is of no more use and is closed. Disposing closes it.
/// </summary>
public sealed class PortStream : Stream
{
    private static readonly TimeSpan Wait = TimeSpan.FromSeconds(15);
    private readonly IPortGrain _port;
    private readonly string _tenant;
    private Task<PortChunk>? _asked;
    private ReadOnlyMemory<byte> _left;
    private bool _ended;
    private int _disposed;

    /// <summary>Makes one over a connection that was opened.</summary>
    /// <param name="port">The connection.</param>
    /// <param name="tenant">For whom it was opened: calls are made from wherever the stream is used.</param>
    public PortStream(IPortGrain port, string tenant)
    {
        ArgumentNullException.ThrowIfNull(port);
        ArgumentException.ThrowIfNullOrEmpty(tenant);
        (_port, _tenant) = (port, tenant);
    }

    /// <inheritdoc/>
    public override bool CanRead => true;

    /// <inheritdoc/>
    public override bool CanWrite => true;

    /// <inheritdoc/>
    public override bool CanSeek => false;

    /// <inheritdoc/>
    public override long Length => throw new NotSupportedException();

    /// <inheritdoc/>
    public override long Position
    {
        get => throw new NotSupportedException();
        set => throw new NotSupportedException();
    }

    /// <inheritdoc/>
    /// <exception cref="IOException">The connection is gone.</exception>
    public override async ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken = default)
    {
        while (_left.IsEmpty && !_ended)
        {
            ObjectDisposedException.ThrowIf(_disposed != 0, this);

            // What is asked for stays asked for when this call is given up: its answer is the next one's.
            _asked ??= AskAsync(() => _port.ReadAsync(Wait));
            var chunk = await _asked.WaitAsync(cancellationToken).ConfigureAwait(false);

            // Asked for ahead, one chunk: the way there and back is not waited for twice, and an end is known soon.
            _asked = chunk.Data.Length > 0 && !chunk.End ? AskAsync(() => _port.ReadAsync(Wait)) : null;
            if (chunk.Reset)
            {
                throw new IOException("The connection to the session's port was reset.");
            }

            _left = chunk.Data;
            _ended = chunk.End;
        }

        var n = Math.Min(buffer.Length, _left.Length);
        _left[..n].CopyTo(buffer);
        _left = _left[n..];
        return n;
    }

    /// <inheritdoc/>
    /// <exception cref="IOException">The connection is gone.</exception>
    public override async ValueTask WriteAsync(ReadOnlyMemory<byte> buffer, CancellationToken cancellationToken = default)
    {
        while (buffer.Length > 0)
        {
            var chunk = buffer[..Math.Min(buffer.Length, IPortGrain.MaxChunkBytes)];
            await SendAsync(chunk.ToArray(), end: false, cancellationToken).ConfigureAwait(false);
            buffer = buffer[chunk.Length..];
        }
    }

    /// <summary>Says that nothing more will be written: the program reads an end of file. Reading goes on.</summary>
    public Task EndWritingAsync(CancellationToken cancellationToken = default) => SendAsync([], end: true, cancellationToken);

    /// <inheritdoc/>
    public override Task<int> ReadAsync(byte[] buffer, int offset, int count, CancellationToken cancellationToken) => ReadAsync(buffer.AsMemory(offset, count), cancellationToken).AsTask();

    /// <inheritdoc/>
    public override Task WriteAsync(byte[] buffer, int offset, int count, CancellationToken cancellationToken) => WriteAsync(buffer.AsMemory(offset, count), cancellationToken).AsTask();

    /// <inheritdoc/>
    public override Task FlushAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    /// <inheritdoc/>
    public override void Flush()
    {
    }

    /// <inheritdoc/>
    public override int Read(byte[] buffer, int offset, int count) => throw new NotSupportedException("Read it asynchronously: a call to a grain does not block a thread.");

    /// <inheritdoc/>
    public override void Write(byte[] buffer, int offset, int count) => throw new NotSupportedException("Write it asynchronously: a call to a grain does not block a thread.");

    /// <inheritdoc/>
    public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

    /// <inheritdoc/>
    public override void SetLength(long value) => throw new NotSupportedException();

    /// <inheritdoc/>
    public override async ValueTask DisposeAsync()
    {
        await CloseAsync().ConfigureAwait(false);
        await base.DisposeAsync().ConfigureAwait(false);
    }

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            _ = CloseAsync();
        }

        base.Dispose(disposing);
    }

    private async Task SendAsync(byte[] data, bool end, CancellationToken cancellationToken)
    {
        ObjectDisposedException.ThrowIf(_disposed != 0, this);
        cancellationToken.ThrowIfCancellationRequested();
        try
        {
            await AskAsync(async () =>
            {
                await _port.WriteAsync(new Immutable<byte[]>(data), end).ConfigureAwait(false);
                return true;
            }).WaitAsync(cancellationToken).ConfigureAwait(false);
        }
        catch (OperationCanceledException)
        {
            // Nobody knows how much of it arrives.
            _ = CloseAsync();
            throw;
        }
    }

    private async Task CloseAsync()
    {
        if (Interlocked.Exchange(ref _disposed, 1) != 0)
        {
            return;
        }

        try
        {
            await AskAsync(async () =>
            {
                await _port.CloseAsync().ConfigureAwait(false);
                return true;
            }).ConfigureAwait(false);
        }
        catch (IOException)
        {
            // Its host ends it when nobody calls it.
        }

        // Whoever still reads is told by that call; an answer nobody waits for is seen here.
        _ = _asked?.ContinueWith(static t => _ = t.Exception, CancellationToken.None, TaskContinuationOptions.OnlyOnFaulted, TaskScheduler.Default);
    }

    /// <summary>Makes a call as the tenant; every trouble is an <see cref="IOException"/>, as of any other connection.</summary>
    private async Task<T> AskAsync<T>(Func<Task<T>> call)
    {
        // Set in a method of its own, so that the caller's context is as before afterwards.
        TenantContext.Set(_tenant);
        try
        {
            return await call().ConfigureAwait(false);
        }
        catch (Exception e) when (e is SandboxException or TimeoutException or OrleansException or InvalidOperationException or OperationCanceledException)
        {
            throw new IOException("The connection to the session's port is gone: " + e.Message, e);
        }
    }
}
