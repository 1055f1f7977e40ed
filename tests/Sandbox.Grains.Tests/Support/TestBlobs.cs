using Sandbox.Snapshots;
using Sandbox.Snapshots.Blobs;

namespace Sandbox.Grains.Tests.Support;

/// <summary>A blob store that can be told to fail, and to wait.</summary>
internal sealed class TestBlobs(string root) : IBlobStore
{
    private readonly FileBlobStore _inner = new(root);

    /// <summary>Called before each put with the blob's name; may throw or wait.</summary>
    public Func<string, Task> BeforePut { get; set; } = _ => Task.CompletedTask;

    /// <summary>Called before each read with the blob's name; may throw or wait.</summary>
    public Func<string, Task> BeforeRead { get; set; } = _ => Task.CompletedTask;

    public async Task PutAsync(string name, ReadOnlyMemory<byte> data, CancellationToken cancellationToken)
    {
        await BeforePut(name);
        await _inner.PutAsync(name, data, cancellationToken);
    }

    public async Task<byte[]?> ReadAsync(string name, long offset, int? length, CancellationToken cancellationToken)
    {
        await BeforeRead(name);
        return await _inner.ReadAsync(name, offset, length, cancellationToken);
    }

    public Task DeleteAsync(string name, CancellationToken cancellationToken) => _inner.DeleteAsync(name, cancellationToken);

    public IAsyncEnumerable<BlobInfo> ListAsync(string folder, CancellationToken cancellationToken) => _inner.ListAsync(folder, cancellationToken);

    /// <summary>Ids of all committed snapshots.</summary>
    public IReadOnlyList<string> Snapshots => [.. Files("snapshots").Select(f => Path.GetFileName(f)!)];

    /// <summary>Files of a kind: <c>packs</c> or <c>snapshots</c>.</summary>
    public IReadOnlyList<string> Files(string kind) => [.. Directory.EnumerateFiles(root, "*", SearchOption.AllDirectories).Where(f => Path.GetDirectoryName(f)!.EndsWith("/" + kind, StringComparison.Ordinal))];

    public static SnapshotException NoSpace() => new(SnapshotErrorKind.NoSpace, "The store is full.");

    public static SnapshotException Away() => new(SnapshotErrorKind.Unavailable, "The store does not answer.");
}
