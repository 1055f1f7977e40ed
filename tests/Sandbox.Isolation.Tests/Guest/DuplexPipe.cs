using System.IO.Pipelines;

namespace Sandbox.Isolation.Tests.Guest;

/// <summary>Two ends of a byte channel in memory. Disposing either end ends both directions, as closing a socket does.</summary>
public static class DuplexPipe
{
    public static (Stream Host, Stream Guest) Create(int bufferBytes = 1024 * 1024)
    {
        var options = new PipeOptions(pauseWriterThreshold: bufferBytes, resumeWriterThreshold: bufferBytes / 2, useSynchronizationContext: false);
        Pipe toGuest = new(options), toHost = new(options);
        return (new End(toHost.Reader, toGuest.Writer), new End(toGuest.Reader, toHost.Writer));
    }

    private sealed class End(PipeReader reader, PipeWriter writer) : Stream
    {
        private readonly Stream _in = reader.AsStream(leaveOpen: true);
        private readonly SemaphoreSlim _writeTurn = new(1, 1);
        private readonly Lock _writerLock = new();
        private int _disposed;

        public override bool CanRead => true;

        public override bool CanSeek => false;

        public override bool CanWrite => true;

        public override long Length => throw new NotSupportedException();

        public override long Position
        {
            get => throw new NotSupportedException();
            set => throw new NotSupportedException();
        }

        public override async ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken = default)
        {
            try
            {
                return await _in.ReadAsync(buffer, cancellationToken);
            }
            catch (Exception e) when (_disposed != 0 && e is OperationCanceledException or InvalidOperationException)
            {
                throw new ObjectDisposedException(nameof(DuplexPipe), e);
            }
        }

        public override async ValueTask WriteAsync(ReadOnlyMemory<byte> buffer, CancellationToken cancellationToken = default)
        {
            // As a socket: safe for several writers, and for closing while one of them writes.
            await _writeTurn.WaitAsync(cancellationToken);
            try
            {
                lock (_writerLock)
                {
                    ObjectDisposedException.ThrowIf(_disposed != 0, this);
                    writer.Write(buffer.Span);
                }

                var flushed = await writer.FlushAsync(cancellationToken);
                if (flushed.IsCanceled || flushed.IsCompleted)
                {
                    throw new IOException("The other end is gone.");
                }
            }
            catch (InvalidOperationException e)
            {
                throw new IOException("The other end is gone.", e);
            }
            finally
            {
                _writeTurn.Release();
            }
        }

        public override Task<int> ReadAsync(byte[] buffer, int offset, int count, CancellationToken cancellationToken) =>
            ReadAsync(buffer.AsMemory(offset, count), cancellationToken).AsTask();

        public override Task WriteAsync(byte[] buffer, int offset, int count, CancellationToken cancellationToken) =>
            WriteAsync(buffer.AsMemory(offset, count), cancellationToken).AsTask();

        public override int Read(byte[] buffer, int offset, int count) => throw new NotSupportedException();

        public override void Write(byte[] buffer, int offset, int count) => throw new NotSupportedException();

        public override Task FlushAsync(CancellationToken cancellationToken) => Task.CompletedTask;

        public override void Flush()
        {
        }

        public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

        public override void SetLength(long value) => throw new NotSupportedException();

        protected override void Dispose(bool disposing)
        {
            if (Interlocked.Exchange(ref _disposed, 1) == 0)
            {
                reader.CancelPendingRead();
                writer.CancelPendingFlush();
                lock (_writerLock)
                {
                    writer.Complete();
                }

                reader.Complete();
            }

            base.Dispose(disposing);
        }
    }
}

file static class PipeWriterExtensions
{
    public static void Write(this PipeWriter writer, ReadOnlySpan<byte> bytes)
    {
        bytes.CopyTo(writer.GetSpan(bytes.Length));
        writer.Advance(bytes.Length);
    }
}
