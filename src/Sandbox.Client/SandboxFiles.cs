using System.Runtime.CompilerServices;
using Orleans.Concurrency;
using Sandbox.Abstractions;

namespace Sandbox.Client;

/// <summary>Files of a session.</summary>
public sealed class SandboxFiles
{
    private readonly SandboxSession _session;

    internal SandboxFiles(SandboxSession session) => _session = session;

    private ISessionFiles Calls => _session.FileCalls;

    private Caller Caller => _session.Caller;

    /// <summary>What is at a path.</summary>
    public Task<FileEntry> StatAsync(string path, string? user = null, CancellationToken cancellationToken = default) =>
        Caller.RetryAsync(() => Calls.StatAsync(path, user), cancellationToken);

    /// <summary>One page of a directory.</summary>
    public Task<FilePage> ListAsync(ListFilesRequest request, CancellationToken cancellationToken = default) =>
        Caller.RetryAsync(() => Calls.ListAsync(request), cancellationToken);

    /// <summary>Makes a directory and its parents.</summary>
    public Task<FileEntry> MakeDirectoryAsync(string path, string? user = null, CancellationToken cancellationToken = default) =>
        Caller.RetryAsync(() => Calls.MakeDirectoryAsync(path, user), cancellationToken);

    /// <summary>Moves or renames.</summary>
    public Task<FileEntry> MoveAsync(string from, string to, bool overwrite = false, string? user = null, CancellationToken cancellationToken = default) =>
        Caller.OnceAsync(() => Calls.MoveAsync(from, to, overwrite, user), cancellationToken);

    /// <summary>Removes a file or, if <paramref name="recursive"/>, a directory.</summary>
    public Task RemoveAsync(string path, bool recursive = false, string? user = null, CancellationToken cancellationToken = default) =>
        Caller.OnceAsync(() => Calls.RemoveAsync(path, recursive, user), cancellationToken);

    /// <summary>Writes a file from a stream. It appears at its path whole, or not at all.</summary>
    public async Task UploadAsync(OpenWriteRequest request, Stream content, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(content);
        var file = await Caller.RetryAsync(() => Calls.OpenWriteAsync(request), cancellationToken);
        try
        {
            var offset = 0L;
            var buffer = new byte[ISessionFiles.MaxChunkBytes];
            int read;
            while ((read = await content.ReadAtLeastAsync(buffer, buffer.Length, throwOnEndOfStream: false, cancellationToken)) > 0)
            {
                var (at, chunk) = (offset, buffer.AsSpan(0, read).ToArray());

                // The same bytes at the same place: repeating a lost call changes nothing.
                await Caller.RetryAsync(() => Calls.WriteChunkAsync(file.Handle, at, new Immutable<byte[]>(chunk)), cancellationToken);
                offset += read;
            }

            await Caller.OnceAsync(() => Calls.CloseAsync(file.Handle, commit: true), cancellationToken);
        }
        catch
        {
            await AbandonAsync(file.Handle);
            throw;
        }
    }

    /// <summary>Writes a small file.</summary>
    public async Task WriteAsync(string path, ReadOnlyMemory<byte> content, CancellationToken cancellationToken = default)
    {
        using var stream = new MemoryStream(content.ToArray(), writable: false);
        await UploadAsync(new OpenWriteRequest { Path = path }, stream, cancellationToken);
    }

    /// <summary>Reads a file into a stream; returns how many bytes it had.</summary>
    public async Task<long> DownloadAsync(string path, Stream to, string? user = null, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(to);
        var file = await Caller.RetryAsync(() => Calls.OpenReadAsync(path, user), cancellationToken);
        try
        {
            var offset = 0L;
            while (true)
            {
                var at = offset;
                var chunk = (await Caller.RetryAsync(() => Calls.ReadChunkAsync(file.Handle, at, ISessionFiles.MaxChunkBytes), cancellationToken)).Value;
                if (chunk.Length == 0)
                {
                    return offset;
                }

                await to.WriteAsync(chunk, cancellationToken);
                offset += chunk.Length;
            }
        }
        finally
        {
            await AbandonAsync(file.Handle);
        }
    }

    /// <summary>Reads a small file.</summary>
    /// <param name="path">Path.</param>
    /// <param name="limit">Most bytes; a longer file is <see cref="SandboxErrorCode.TooLarge"/>.</param>
    /// <param name="cancellationToken">Stops reading.</param>
    public async Task<byte[]> ReadAsync(string path, int limit = 16 * 1024 * 1024, CancellationToken cancellationToken = default)
    {
        using var stream = new LimitedStream(limit, path);
        await DownloadAsync(path, stream, null, cancellationToken);
        return stream.ToArray();
    }

    /// <summary>
    /// What happens in a directory from now on, until it is removed or the enumeration is given up. Ends with the microVM, too: after a pause it must be begun anew. Events may be lost when they come faster than
    /// they are read, see <see cref="WatchPagesAsync"/> for how many; a file may be reported twice that appears in a directory at the moment in which that itself appears.
    /// </summary>
    /// <param name="path">The directory.</param>
    /// <param name="recursive">Also what is below it, in directories made later, too.</param>
    /// <param name="user">User inside the guest.</param>
    /// <param name="cancellationToken">Ends it.</param>
    public async IAsyncEnumerable<FileEvent> WatchAsync(
        string path, bool recursive = false, string? user = null, [EnumeratorCancellation] CancellationToken cancellationToken = default)
    {
        await foreach (var page in WatchPagesAsync(path, recursive, user, cancellationToken))
        {
            foreach (var change in page.Events)
            {
                yield return change;
            }
        }
    }

    /// <summary>The same in pages, which say how many events were lost. The first page is empty and says that the watch has begun.</summary>
    public async IAsyncEnumerable<FileEventPage> WatchPagesAsync(
        string path, bool recursive = false, string? user = null, [EnumeratorCancellation] CancellationToken cancellationToken = default)
    {
        var watch = await Caller.OnceAsync(() => Calls.WatchAsync(path, recursive, user), cancellationToken);
        try
        {
            yield return new FileEventPage([], 0, false);
            for (FileEventPage? page = null; page is not { Closed: true };)
            {
                page = await NextAsync(watch, cancellationToken);
                if (page.Events.Count > 0 || page.Dropped > 0)
                {
                    yield return page;
                }
            }
        }
        finally
        {
            await EndWatchAsync(watch);
        }
    }

    private async Task<FileEventPage> NextAsync(string watch, CancellationToken cancellationToken)
    {
        try
        {
            return await Caller.OnceAsync(() => Calls.ReadWatchAsync(watch, TimeSpan.FromSeconds(15)), cancellationToken);
        }
        catch (SandboxException e) when (e.Code == SandboxErrorCode.NotFound)
        {
            return new FileEventPage([], 0, true);
        }
    }

    private async Task EndWatchAsync(string watch)
    {
        try
        {
            await Caller.OnceAsync(() => Calls.UnwatchAsync(watch), CancellationToken.None);
        }
        catch (SandboxException)
        {
            // It ends by itself when nobody reads it.
        }
    }

    private async Task AbandonAsync(string handle)
    {
        try
        {
            await Caller.OnceAsync(() => Calls.CloseAsync(handle, commit: false), CancellationToken.None);
        }
        catch (SandboxException)
        {
            // The guest closes it by itself when it is not used.
        }
    }

    /// <summary>A file may grow while it is read: what is asked is a limit, not its size at the start.</summary>
    private sealed class LimitedStream(int limit, string path) : MemoryStream
    {
        public override void Write(byte[] buffer, int offset, int count)
        {
            if (Length + count > limit)
            {
                throw new SandboxException(SandboxErrorCode.TooLarge, $"{path} has more than {limit} bytes. Download it to a stream.");
            }

            base.Write(buffer, offset, count);
        }

        public override ValueTask WriteAsync(ReadOnlyMemory<byte> buffer, CancellationToken cancellationToken = default)
        {
            Write(buffer.ToArray(), 0, buffer.Length);
            return ValueTask.CompletedTask;
        }
    }
}
