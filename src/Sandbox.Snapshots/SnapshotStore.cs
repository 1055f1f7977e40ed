using System.Runtime.CompilerServices;
using System.Text;
using Microsoft.Extensions.Logging;
using Sandbox.Snapshots.Blobs;
using Sandbox.Snapshots.Chunks;
using Sandbox.Snapshots.Keys;
using Sandbox.Snapshots.Manifests;

namespace Sandbox.Snapshots;

/// <summary>
/// Snapshots of sessions in a blob store: zero-elided, deduplicated against the parent, compressed and encrypted under the tenant's key. Safe for concurrent use by all hosts of a cluster.
/// The format, and why a crash cannot lose data, are described in docs/snapshot-store.md.
/// </summary>
public sealed class SnapshotStore(IBlobStore blobs, IKeyProvider keys, TimeProvider clock, ILogger<SnapshotStore> logger)
{
    /// <summary>A snapshot not committed after this time is given up. Half of <see cref="IntentLife"/>, so that the clocks of two hosts may differ by hours.</summary>
    public static readonly TimeSpan LongestWrite = TimeSpan.FromHours(12);

    /// <summary>For this long after it was begun, nothing a snapshot may need is collected.</summary>
    public static readonly TimeSpan IntentLife = TimeSpan.FromHours(24);

    /// <summary>Begins a snapshot.</summary>
    /// <exception cref="ArgumentException">The id is not one.</exception>
    /// <exception cref="SnapshotException"><see cref="SnapshotErrorKind.AlreadyExists"/>, <see cref="SnapshotErrorKind.NoSpace"/> or <see cref="SnapshotErrorKind.Unavailable"/>.</exception>
    public async Task<SnapshotWriter> BeginAsync(SnapshotRequest request, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(request);
        CheckId(request.SnapshotId);
        var folders = new TenantFolders(request.Tenant);
        var begun = clock.GetUtcNow();
        try
        {
            // The intent is there before the parent is looked at: from now on nobody collects what the parent has, even if it is deleted meanwhile.
            await blobs.PutAsync(folders.Intent(request.SnapshotId), Encoding.UTF8.GetBytes(request.ParentId ?? ""), cancellationToken).ConfigureAwait(false);
        }
        catch (SnapshotException e) when (e.Kind == SnapshotErrorKind.AlreadyExists)
        {
            // Half-written packs of that name may be about; a new attempt takes a new id.
            throw Exists(request.SnapshotId, e);
        }

        var codec = await CodecAsync(request.Tenant, cancellationToken).ConfigureAwait(false);
        try
        {
            Manifest? parent = null;
            try
            {
                parent = request.ParentId is { } id ? await LoadAsync(folders, id, codec, cancellationToken).ConfigureAwait(false) : null;
            }
            catch (SnapshotException e) when (e.Kind is SnapshotErrorKind.NotFound or SnapshotErrorKind.Corrupt)
            {
                logger.LogWarning("Snapshot {Snapshot} shares nothing with {Parent}: {Reason}", request.SnapshotId, request.ParentId, e.Message);
            }

            return new SnapshotWriter(request, folders, blobs, codec, parent, begun, clock);
        }
        catch
        {
            codec.Dispose();
            throw;
        }
    }

    /// <summary>Opens a snapshot for reading.</summary>
    /// <exception cref="SnapshotException"><see cref="SnapshotErrorKind.NotFound"/>, <see cref="SnapshotErrorKind.Corrupt"/> or <see cref="SnapshotErrorKind.Unavailable"/>.</exception>
    public async Task<SnapshotReader> OpenAsync(string tenant, string snapshotId, CancellationToken cancellationToken)
    {
        CheckId(snapshotId);
        var folders = new TenantFolders(tenant);
        var codec = await CodecAsync(tenant, cancellationToken).ConfigureAwait(false);
        try
        {
            return new SnapshotReader(await LoadAsync(folders, snapshotId, codec, cancellationToken).ConfigureAwait(false), folders, blobs, codec);
        }
        catch
        {
            codec.Dispose();
            throw;
        }
    }

    /// <summary>
    /// Makes a snapshot of another session out of one that exists: it shares all chunks with it and stores none. Each may be deleted without the other. One that exists already is left as it is, so the call may be repeated.
    /// </summary>
    /// <exception cref="SnapshotException"><see cref="SnapshotErrorKind.NotFound"/>, <see cref="SnapshotErrorKind.Corrupt"/>, <see cref="SnapshotErrorKind.NoSpace"/> or <see cref="SnapshotErrorKind.Unavailable"/>.</exception>
    public async Task<SnapshotInfo> CopyAsync(string tenant, string sourceId, string snapshotId, string sessionId, CancellationToken cancellationToken)
    {
        CheckId(sourceId);
        CheckId(snapshotId);
        if (await FindAsync(tenant, snapshotId, cancellationToken).ConfigureAwait(false) is { } made)
        {
            return made;
        }

        var folders = new TenantFolders(tenant);
        try
        {
            // As a writer does: while the intent names the source, and the source is gone, nothing is collected.
            await blobs.PutAsync(folders.Intent(snapshotId), Encoding.UTF8.GetBytes(sourceId), cancellationToken).ConfigureAwait(false);
        }
        catch (SnapshotException e) when (e.Kind == SnapshotErrorKind.AlreadyExists)
        {
            // An earlier call of this kind did not come to its end. What it would have written is what this one writes.
        }

        using var codec = await CodecAsync(tenant, cancellationToken).ConfigureAwait(false);
        var source = await LoadAsync(folders, sourceId, codec, cancellationToken).ConfigureAwait(false);
        var copy = source with { SnapshotId = snapshotId, SessionId = sessionId, ParentId = sourceId, StoredBytes = 0 };
        var name = folders.Manifest(snapshotId);
        try
        {
            await blobs.PutAsync(name, codec.Encode(ManifestFormat.Write(copy), Binding(name)), cancellationToken).ConfigureAwait(false);
        }
        catch (SnapshotException e) when (e.Kind == SnapshotErrorKind.AlreadyExists)
        {
            // Another caller was quicker with the same.
        }

        return Describe(copy);
    }

    /// <summary>What is known of a snapshot, or <see langword="null"/> if there is none of that id.</summary>
    /// <exception cref="SnapshotException"><see cref="SnapshotErrorKind.Corrupt"/> or <see cref="SnapshotErrorKind.Unavailable"/>.</exception>
    public async Task<SnapshotInfo?> FindAsync(string tenant, string snapshotId, CancellationToken cancellationToken)
    {
        try
        {
            using var reader = await OpenAsync(tenant, snapshotId, cancellationToken).ConfigureAwait(false);
            return reader.Info;
        }
        catch (SnapshotException e) when (e.Kind == SnapshotErrorKind.NotFound)
        {
            return null;
        }
    }

    /// <summary>Ids of a tenant's snapshots, in no order.</summary>
    /// <exception cref="SnapshotException"><see cref="SnapshotErrorKind.Unavailable"/>.</exception>
    public async IAsyncEnumerable<string> ListAsync(string tenant, [EnumeratorCancellation] CancellationToken cancellationToken)
    {
        await foreach (var blob in blobs.ListAsync(new TenantFolders(tenant).Manifests, cancellationToken).ConfigureAwait(false))
        {
            yield return Path.GetFileName(blob.Name);
        }
    }

    /// <summary>Deletes a snapshot; one that is not there is no error. Others that share chunks with it stay whole; its space is given back by <see cref="CollectAsync"/>.</summary>
    /// <exception cref="SnapshotException"><see cref="SnapshotErrorKind.Unavailable"/>.</exception>
    public Task DeleteAsync(string tenant, string snapshotId, CancellationToken cancellationToken)
    {
        CheckId(snapshotId);
        return blobs.DeleteAsync(new TenantFolders(tenant).Manifest(snapshotId), cancellationToken);
    }

    /// <summary>
    /// Removes a tenant's packs that no snapshot needs. May run while snapshots are written, read and deleted, on several hosts at once, and may be killed anywhere. Removes nothing while any manifest cannot be read.
    /// </summary>
    /// <returns>Bytes given back.</returns>
    /// <exception cref="SnapshotException"><see cref="SnapshotErrorKind.Corrupt"/> or <see cref="SnapshotErrorKind.Unavailable"/>; nothing that is needed was removed.</exception>
    public async Task<long> CollectAsync(string tenant, CancellationToken cancellationToken)
    {
        var folders = new TenantFolders(tenant);
        using var codec = await CodecAsync(tenant, cancellationToken).ConfigureAwait(false);
        return await new SnapshotCollector(blobs, folders, clock, logger)
            .RunAsync(id => LoadAsync(folders, id, codec, cancellationToken), cancellationToken).ConfigureAwait(false);
    }

    internal static SnapshotException Exists(string snapshotId, Exception e) =>
        new(SnapshotErrorKind.AlreadyExists, $"Snapshot {snapshotId} exists, or was begun, already; a snapshot is never overwritten. Take a new id.", e);

    internal static SnapshotInfo Describe(Manifest m) => new(m.SnapshotId, m.SessionId, m.ParentId, m.CreatedAt, m.StoredBytes, m.Machine, [.. m.Files.Select(f => f.Name)]);

    /// <summary>A manifest is bound to its place: moved to another name, it does not open.</summary>
    internal static byte[] Binding(string name) => Encoding.UTF8.GetBytes("manifest " + name);

    private async Task<Manifest> LoadAsync(TenantFolders folders, string snapshotId, ChunkCodec codec, CancellationToken cancellationToken)
    {
        var name = folders.Manifest(snapshotId);
        var stored = await blobs.ReadAsync(name, 0, null, cancellationToken).ConfigureAwait(false)
            ?? throw new SnapshotException(SnapshotErrorKind.NotFound, $"There is no snapshot {snapshotId}.");
        try
        {
            return ManifestFormat.Read(codec.Decode(stored, Binding(name)) ?? throw new InvalidDataException("it was changed, or is encrypted under another key"));
        }
        catch (InvalidDataException e)
        {
            throw new SnapshotException(SnapshotErrorKind.Corrupt, $"Snapshot {snapshotId} cannot be read: {e.Message}. Use an older checkpoint.", e);
        }
    }

    private async Task<ChunkCodec> CodecAsync(string tenant, CancellationToken cancellationToken) => new(await keys.GetAsync(tenant, cancellationToken).ConfigureAwait(false));

    private static void CheckId(string snapshotId)
    {
        if (snapshotId.Length is 0 or > 64 || !snapshotId.All(c => char.IsAsciiLetterOrDigit(c) || c is '-' or '_'))
        {
            throw new ArgumentException($"'{snapshotId}' is not the id of a snapshot: letters, digits, '-' and '_', at most 64.", nameof(snapshotId));
        }
    }
}
