using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace Sandbox.Snapshots.Blobs;

/// <summary>Blobs as files. A blob is written beside its place, made durable, and linked there: it is whole or absent, and the first of two writers wins.</summary>
public sealed partial class FileBlobStore : IBlobStore
{
    private const string Scratch = ".partial";
    private const int NoSpaceLeft = 28;
    private const int QuotaExceeded = 122;
    private const int FileExists = 17;
    private static readonly TimeSpan ScratchLife = TimeSpan.FromDays(1);
    private readonly string _root;
    private readonly string _scratch;

    /// <summary>Opens a store, making its directory (for this user only) where it is missing, and removes what writers that died a day ago left half done.</summary>
    /// <exception cref="SnapshotException"><see cref="SnapshotErrorKind.Unavailable"/>.</exception>
    public FileBlobStore(string directory)
    {
        ArgumentException.ThrowIfNullOrEmpty(directory);
        _root = Path.GetFullPath(directory);
        _scratch = Path.Combine(_root, Scratch);
        try
        {
            CreatePrivate(_scratch);
            foreach (var file in Directory.EnumerateFiles(_scratch).Where(f => File.GetLastWriteTimeUtc(f) < DateTime.UtcNow - ScratchLife))
            {
                File.Delete(file);
            }
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw Unusable(_root, e);
        }
    }

    /// <inheritdoc/>
    public async Task PutAsync(string name, ReadOnlyMemory<byte> data, CancellationToken cancellationToken)
    {
        var path = PathOf(name);
        var partial = Path.Combine(_scratch, Guid.NewGuid().ToString("n"));
        try
        {
            await using (var file = new FileStream(partial, new FileStreamOptions { Mode = FileMode.CreateNew, Access = FileAccess.Write, BufferSize = 0, UnixCreateMode = UnixFileMode.UserRead | UnixFileMode.UserWrite }))
            {
                await file.WriteAsync(data, cancellationToken).ConfigureAwait(false);
                file.Flush(flushToDisk: true);
            }

            var directory = Path.GetDirectoryName(path)!;
            Prepare(directory);
            if (Link(partial, path) != 0)
            {
                var error = Marshal.GetLastPInvokeError();
                throw error == FileExists
                    ? new SnapshotException(SnapshotErrorKind.AlreadyExists, $"Blob {name} exists already.")
                    : new IOException($"link: {Marshal.GetPInvokeErrorMessage(error)}", error);
            }

            Sync(directory);
        }
        catch (IOException e) when (e.HResult is NoSpaceLeft or QuotaExceeded)
        {
            throw new SnapshotException(SnapshotErrorKind.NoSpace, $"The snapshot store in {_root} has no space left; make room there, or delete checkpoints.", e);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw Unusable(name, e);
        }
        finally
        {
            File.Delete(partial);
        }
    }

    /// <inheritdoc/>
    public async Task<byte[]?> ReadAsync(string name, long offset, int? length, CancellationToken cancellationToken)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(offset);
        try
        {
            using var file = File.OpenHandle(PathOf(name));
            var rest = Math.Max(0, RandomAccess.GetLength(file) - offset);
            var data = new byte[Math.Min(length ?? rest, rest)];
            for (var done = 0; done < data.Length;)
            {
                var read = await RandomAccess.ReadAsync(file, data.AsMemory(done), offset + done, cancellationToken).ConfigureAwait(false);
                if (read == 0)
                {
                    throw new EndOfStreamException("it became shorter while it was read");
                }

                done += read;
            }

            return data;
        }
        catch (Exception e) when (e is FileNotFoundException or DirectoryNotFoundException)
        {
            return null;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw Unusable(name, e);
        }
    }

    /// <inheritdoc/>
    public Task DeleteAsync(string name, CancellationToken cancellationToken)
    {
        try
        {
            File.Delete(PathOf(name));
        }
        catch (DirectoryNotFoundException)
        {
            // Then it is not there.
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw Unusable(name, e);
        }

        return Task.CompletedTask;
    }

    /// <inheritdoc/>
    public async IAsyncEnumerable<BlobInfo> ListAsync(string folder, [EnumeratorCancellation] CancellationToken cancellationToken)
    {
        await Task.CompletedTask.ConfigureAwait(false);
        foreach (var file in Files(PathOf(folder)))
        {
            cancellationToken.ThrowIfCancellationRequested();
            if (Describe(file) is { } blob)
            {
                yield return blob;
            }
        }
    }

    private static List<FileInfo> Files(string directory)
    {
        try
        {
            return [.. new DirectoryInfo(directory).EnumerateFiles("*", SearchOption.AllDirectories)];
        }
        catch (DirectoryNotFoundException)
        {
            return [];
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw Unusable(directory, e);
        }
    }

    private BlobInfo? Describe(FileInfo file)
    {
        try
        {
            return new BlobInfo(Path.GetRelativePath(_root, file.FullName), file.Length, file.LastWriteTimeUtc);
        }
        catch (FileNotFoundException)
        {
            return null;
        }
    }

    private string PathOf(string name) => Path.Combine(_root, BlobName.Check(name));

    /// <summary>Makes a directory below the root, and makes sure that it is still there after a loss of power.</summary>
    private void Prepare(string directory)
    {
        if (Directory.Exists(directory))
        {
            return;
        }

        CreatePrivate(directory);
        for (var changed = directory; changed.Length > _root.Length;)
        {
            changed = Path.GetDirectoryName(changed)!;
            Sync(changed);
        }
    }

    private static SnapshotException Unusable(string what, Exception e) => new(SnapshotErrorKind.Unavailable, $"The snapshot store failed at {what}: {e.Message}", e);

    private static void CreatePrivate(string path)
    {
        if (OperatingSystem.IsWindows())
        {
            throw new PlatformNotSupportedException("The snapshot store runs on Linux.");
        }

        Directory.CreateDirectory(path, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
    }

    /// <summary>Without this the new name may be gone after a loss of power.</summary>
    private static void Sync(string directory)
    {
        const int ReadOnlyDirectory = 0x10000;
        var fd = Open(directory, ReadOnlyDirectory);
        if (fd < 0)
        {
            throw new IOException($"{directory}: {Marshal.GetLastPInvokeErrorMessage()}", Marshal.GetLastPInvokeError());
        }

        var failed = Flush(fd) != 0;
        var error = Marshal.GetLastPInvokeError();
        _ = Close(fd);
        if (failed)
        {
            throw new IOException($"{directory}: {Marshal.GetPInvokeErrorMessage(error)}", error);
        }
    }

    [LibraryImport("libc", EntryPoint = "link", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int Link(string from, string to);

    [LibraryImport("libc", EntryPoint = "open", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int Open(string path, int flags);

    [LibraryImport("libc", EntryPoint = "fsync", SetLastError = true)]
    private static partial int Flush(int fd);

    [LibraryImport("libc", EntryPoint = "close")]
    private static partial int Close(int fd);
}
