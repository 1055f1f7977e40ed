using Orleans.Concurrency;
using Sandbox.Abstractions;

namespace Sandbox.Gateway.Files;

/// <summary>Whole files as streams of chunks, a few of them under way at a time: each is a round trip to the guest.</summary>
internal static class ChunkedFiles
{
    private const int ChunksAhead = 4;

    /// <summary>Copies an opened file into a stream.</summary>
    /// <returns>Whether it was as long as it had said.</returns>
    public static async Task<bool> ReadAsync(ISessionFiles files, OpenedFile file, Func<ReadOnlyMemory<byte>, Task> write)
    {
        var size = file.Entry.Size;
        var ahead = new Queue<Task<Immutable<byte[]>>>();
        long asked = 0, sent = 0;
        while (sent < size)
        {
            while (ahead.Count < ChunksAhead && asked < size)
            {
                var length = (int)Math.Min(ISessionFiles.MaxChunkBytes, size - asked);
                ahead.Enqueue(files.ReadChunkAsync(file.Handle, asked, length));
                asked += length;
            }

            var expected = (int)Math.Min(ISessionFiles.MaxChunkBytes, size - sent);
            var chunk = (await ahead.Dequeue()).Value;
            if (chunk.Length != expected)
            {
                return false;
            }

            await write(chunk);
            sent += chunk.Length;
        }

        return true;
    }

    /// <summary>Writes a file, whole or not at all.</summary>
    /// <param name="files">Where.</param>
    /// <param name="request">Which.</param>
    /// <param name="content">What.</param>
    /// <param name="most">Most bytes that it may have.</param>
    /// <param name="cancellationToken">Gives up.</param>
    /// <returns>Its size.</returns>
    public static Task<long> WriteAsync(ISessionFiles files, OpenWriteRequest request, Stream content, long most, CancellationToken cancellationToken) =>
        WriteAsync(files, request, async writer =>
        {
            while (true)
            {
                var buffer = new byte[ISessionFiles.MaxChunkBytes];
                var n = await content.ReadAtLeastAsync(buffer, buffer.Length, throwOnEndOfStream: false, cancellationToken);
                if (n == 0)
                {
                    return;
                }

                await writer.AddAsync(n == buffer.Length ? buffer : buffer[..n]);
            }
        }, most);

    /// <summary>Writes a file of what a source adds, whole or not at all.</summary>
    /// <returns>Its size.</returns>
    public static async Task<long> WriteAsync(ISessionFiles files, OpenWriteRequest request, Func<ChunkWriter, Task> source, long most)
    {
        var opened = await files.OpenWriteAsync(request);
        var committed = false;
        try
        {
            var writer = new ChunkWriter(files, opened.Handle, most);
            await source(writer);
            await writer.FinishAsync();
            await files.CloseAsync(opened.Handle, commit: true);
            committed = true;
            return writer.Size;
        }
        finally
        {
            if (!committed)
            {
                await CloseQuietlyAsync(files, opened.Handle);
            }
        }
    }

    /// <summary>Lets go of a file.</summary>
    public static async Task CloseQuietlyAsync(ISessionFiles files, string handle)
    {
        try
        {
            await files.CloseAsync(handle, commit: false);
        }
        catch (Exception e) when (e is SandboxException or TimeoutException or Orleans.Runtime.OrleansException)
        {
            // The guest closes what is not used.
        }
    }

    /// <summary>Appends chunks to an open file.</summary>
    internal sealed class ChunkWriter(ISessionFiles files, string handle, long most)
    {
        private readonly Queue<Task> _under = new();

        /// <summary>Bytes so far.</summary>
        public long Size { get; private set; }

        /// <summary>Adds a chunk, which is the writer's from now on; waits while too many are under way.</summary>
        public async Task AddAsync(byte[] chunk)
        {
            if (Size + chunk.Length > most)
            {
                throw new SandboxException(SandboxErrorCode.TooLarge, $"A file has at most {most} bytes here.");
            }

            _under.Enqueue(files.WriteChunkAsync(handle, Size, chunk.AsImmutable()));
            Size += chunk.Length;
            if (_under.Count == ChunksAhead)
            {
                await _under.Dequeue();
            }
        }

        /// <summary>Waits for all of them.</summary>
        public Task FinishAsync() => Task.WhenAll(_under);
    }
}
