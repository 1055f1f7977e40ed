namespace Sandbox.Snapshots.Blobs;

/// <summary>
/// Named byte strings that are written once, whole. All that the snapshot store asks of a file system or an object store. Safe for concurrent use, also by several processes.
/// Names are paths of <c>[A-Za-z0-9._-]</c> segments with <c>/</c> between them; no segment begins with a dot.
/// </summary>
public interface IBlobStore
{
    /// <summary>
    /// Writes a blob. When it returns the blob survives a crash of this machine (as far as the store promises that); if it fails, the blob is either there whole or not there.
    /// </summary>
    /// <exception cref="SnapshotException"><see cref="SnapshotErrorKind.AlreadyExists"/>, <see cref="SnapshotErrorKind.NoSpace"/> or <see cref="SnapshotErrorKind.Unavailable"/>.</exception>
    Task PutAsync(string name, ReadOnlyMemory<byte> data, CancellationToken cancellationToken);

    /// <summary>Reads a part of a blob, or all of it where <paramref name="length"/> is <see langword="null"/>.</summary>
    /// <returns>The bytes, fewer than asked for where the blob is shorter; <see langword="null"/> where there is no such blob.</returns>
    /// <exception cref="SnapshotException"><see cref="SnapshotErrorKind.Unavailable"/>.</exception>
    Task<byte[]?> ReadAsync(string name, long offset, int? length, CancellationToken cancellationToken);

    /// <summary>Removes a blob. One that is not there is no error.</summary>
    /// <exception cref="SnapshotException"><see cref="SnapshotErrorKind.Unavailable"/>.</exception>
    Task DeleteAsync(string name, CancellationToken cancellationToken);

    /// <summary>
    /// All blobs below a folder that were there when the call began and still are when it ends; those that come or go meanwhile may or may not be among them.
    /// </summary>
    /// <exception cref="SnapshotException"><see cref="SnapshotErrorKind.Unavailable"/>.</exception>
    IAsyncEnumerable<BlobInfo> ListAsync(string folder, CancellationToken cancellationToken);
}

/// <summary>A blob.</summary>
/// <param name="Name">Its full name.</param>
/// <param name="Length">Bytes.</param>
/// <param name="WrittenAt">When it was written, by the clock of the store (UTC).</param>
public sealed record BlobInfo(string Name, long Length, DateTimeOffset WrittenAt);
