using Orleans.Concurrency;

namespace Sandbox.Abstractions;

/// <summary>
/// Files inside a session's guest. Key: session id. Paths are absolute or relative to the user's home, at most 4096 bytes, without NUL; they are resolved
/// inside the guest with the permissions of <c>user</c>, so no path can reach the host.
/// </summary>
[Alias("sandbox.ISessionFiles")]
public interface ISessionFiles : IGrainWithStringKey
{
    /// <summary>Most bytes in one chunk.</summary>
    const int MaxChunkBytes = 256 * 1024;

    /// <summary>What is at a path.</summary>
    [Alias("stat"), AlwaysInterleave]
    Task<FileEntry> StatAsync(string path, string? user);

    /// <summary>Lists a directory.</summary>
    [Alias("list"), AlwaysInterleave]
    Task<FilePage> ListAsync(ListFilesRequest request);

    /// <summary>Makes a directory and its parents. An existing directory is no error.</summary>
    [Alias("mkdir"), AlwaysInterleave]
    Task<FileEntry> MakeDirectoryAsync(string path, string? user);

    /// <summary>Moves or renames.</summary>
    [Alias("move"), AlwaysInterleave]
    Task<FileEntry> MoveAsync(string from, string to, bool overwrite, string? user);

    /// <summary>Removes a file, a symbolic link itself, or (recursive) a directory.</summary>
    [Alias("remove"), AlwaysInterleave]
    Task RemoveAsync(string path, bool recursive, string? user);

    /// <summary>Opens a regular file for reading.</summary>
    [Alias("open-read"), AlwaysInterleave]
    Task<OpenedFile> OpenReadAsync(string path, string? user);

    /// <summary>Opens a file for writing: beside its place, moved there by a committing close; or appending.</summary>
    [Alias("open-write"), AlwaysInterleave]
    Task<OpenedFile> OpenWriteAsync(OpenWriteRequest request);

    /// <summary>Reads a chunk; empty at the end.</summary>
    [Alias("read"), AlwaysInterleave]
    Task<Immutable<byte[]>> ReadChunkAsync(string handle, long offset, int length);

    /// <summary>Writes a chunk.</summary>
    [Alias("write"), AlwaysInterleave]
    Task WriteChunkAsync(string handle, long offset, Immutable<byte[]> data);

    /// <summary>Watches a directory for changes.</summary>
    /// <returns>The watch's id, good for the microVM that gave it; a watch that is not read for 5 minutes ends. A session may have 64.</returns>
    /// <exception cref="SandboxException"><see cref="SandboxErrorCode.NotFound"/>; <see cref="SandboxErrorCode.InvalidArgument"/>: no directory; <see cref="SandboxErrorCode.ResourceExhausted"/>: too many watches.</exception>
    [Alias("watch"), AlwaysInterleave]
    Task<string> WatchAsync(string path, bool recursive, string? user);

    /// <summary>The next events of a watch; waits up to <paramref name="wait"/> (at most 20 s) for the first. One reader at a time.</summary>
    /// <exception cref="SandboxException"><see cref="SandboxErrorCode.NotFound"/>: there is no such watch (any more).</exception>
    [Alias("read-watch"), AlwaysInterleave]
    Task<FileEventPage> ReadWatchAsync(string watchId, TimeSpan wait);

    /// <summary>Ends a watch. Ending an ended one is no error.</summary>
    [Alias("unwatch"), AlwaysInterleave]
    Task UnwatchAsync(string watchId);

    /// <summary>Closes a handle. A file open for writing appears at its path only if <paramref name="commit"/>.</summary>
    [Alias("close"), AlwaysInterleave]
    Task CloseAsync(string handle, bool commit);
}
