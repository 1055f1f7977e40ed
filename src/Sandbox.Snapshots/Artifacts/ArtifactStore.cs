using Sandbox.Snapshots.Blobs;
using Sandbox.Snapshots.Keys;
using Sandbox.Snapshots.Manifests;

namespace Sandbox.Snapshots.Artifacts;

/// <summary>
/// Files that executions made, kept until their session is removed. Each is one blob, encrypted under a key of its own that derives from its tenant's (see
/// <see cref="ArtifactSeal"/>), so that neither the store nor another tenant can read it, and none can be passed off as another. Safe for concurrent use.
/// </summary>
/// <param name="blobs">Where the bytes are.</param>
/// <param name="keys">The tenants' keys.</param>
public sealed class ArtifactStore(IBlobStore blobs, IKeyProvider keys)
{
    /// <summary>Most bytes of one artifact: it is written whole, from memory.</summary>
    public const int MaxBytes = 256 * 1024 * 1024;

    /// <summary>Bytes of one chunk, and most that one read returns.</summary>
    public const int ChunkBytes = ArtifactSeal.ChunkBytes;

    /// <summary>Keeps an artifact under an id that was never used before.</summary>
    /// <exception cref="SnapshotException">The store has no space, or cannot be reached.</exception>
    public async Task PutAsync(string tenant, string sessionId, string artifactId, ArtifactInfo info, ReadOnlyMemory<byte> data, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(info);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(data.Length, MaxBytes);
        ArgumentOutOfRangeException.ThrowIfNotEqual(info.Size, data.Length);
        using var seal = await SealOfAsync(tenant, sessionId, artifactId, cancellationToken).ConfigureAwait(false);
        await blobs.PutAsync(NameOf(tenant, sessionId, artifactId), seal.Close(info, data.Span), cancellationToken).ConfigureAwait(false);
    }

    /// <summary>What is known of an artifact, or <see langword="null"/> where there is none.</summary>
    /// <exception cref="SnapshotException">It is damaged, or the store cannot be reached.</exception>
    public async Task<ArtifactInfo?> FindAsync(string tenant, string sessionId, string artifactId, CancellationToken cancellationToken)
    {
        using var seal = await SealOfAsync(tenant, sessionId, artifactId, cancellationToken).ConfigureAwait(false);
        var header = await blobs.ReadAsync(NameOf(tenant, sessionId, artifactId), 0, ArtifactSeal.HeaderBytes, cancellationToken).ConfigureAwait(false);
        return header is null ? null : seal.OpenHeader(header);
    }

    /// <summary>A chunk of an artifact: <see cref="ChunkBytes"/> bytes, or fewer at its end; <see langword="null"/> where there is no such artifact (any more).</summary>
    /// <param name="tenant">Whose it is.</param>
    /// <param name="sessionId">Its session.</param>
    /// <param name="artifactId">Its id.</param>
    /// <param name="offset">Where to begin, a multiple of <see cref="ChunkBytes"/>, less than its size.</param>
    /// <param name="cancellationToken">Gives up.</param>
    /// <exception cref="SnapshotException">It is damaged, or the store cannot be reached.</exception>
    public async Task<byte[]?> ReadAsync(string tenant, string sessionId, string artifactId, long offset, CancellationToken cancellationToken)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(offset);
        ArgumentOutOfRangeException.ThrowIfNotEqual(offset % ChunkBytes, 0);
        using var seal = await SealOfAsync(tenant, sessionId, artifactId, cancellationToken).ConfigureAwait(false);
        var number = offset / ChunkBytes;
        var chunk = await blobs.ReadAsync(NameOf(tenant, sessionId, artifactId), ArtifactSeal.PlaceOf(number), ArtifactSeal.SealedChunkBytes, cancellationToken).ConfigureAwait(false);
        return chunk is null ? null : seal.OpenChunk(number, chunk);
    }

    /// <summary>Removes all artifacts of a session.</summary>
    /// <exception cref="SnapshotException">The store cannot be reached; some may be left.</exception>
    public async Task DeleteSessionAsync(string tenant, string sessionId, CancellationToken cancellationToken)
    {
        await foreach (var blob in blobs.ListAsync(FolderOf(tenant, sessionId), cancellationToken).ConfigureAwait(false))
        {
            await blobs.DeleteAsync(blob.Name, cancellationToken).ConfigureAwait(false);
        }
    }

    private static string FolderOf(string tenant, string sessionId) => $"{TenantFolders.NameOf(tenant)}/{sessionId}";

    private static string NameOf(string tenant, string sessionId, string artifactId) => $"{FolderOf(tenant, sessionId)}/{artifactId}";

    private async Task<ArtifactSeal> SealOfAsync(string tenant, string sessionId, string artifactId, CancellationToken cancellationToken) =>
        new(await keys.GetAsync(tenant, cancellationToken).ConfigureAwait(false), $"{sessionId}/{artifactId}");
}
