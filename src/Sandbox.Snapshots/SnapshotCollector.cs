using System.Text;
using Microsoft.Extensions.Logging;
using Sandbox.Snapshots.Blobs;
using Sandbox.Snapshots.Manifests;

namespace Sandbox.Snapshots;

/// <summary>
/// Mark and sweep over one tenant's packs. The order of its steps is what makes it safe beside writers: packs first, then manifests, then intents. A pack that is listed and named by no manifest is either garbage, or
/// its snapshot had not been committed when the manifests were listed: then its intent, which lives for a day whatever happens, is found afterwards.
/// </summary>
internal sealed class SnapshotCollector(IBlobStore blobs, TenantFolders folders, TimeProvider clock, ILogger logger)
{
    public async Task<long> RunAsync(Func<string, Task<Manifest>> load, CancellationToken cancellationToken)
    {
        var packs = await ListAsync(folders.Packs, cancellationToken).ConfigureAwait(false);
        var used = new HashSet<string>(StringComparer.Ordinal);
        var snapshots = new HashSet<string>(StringComparer.Ordinal);
        foreach (var manifest in await ListAsync(folders.Manifests, cancellationToken).ConfigureAwait(false))
        {
            var id = Path.GetFileName(manifest.Name);
            try
            {
                used.UnionWith((await load(id).ConfigureAwait(false)).Chunks.Select(c => c.Pack));
                snapshots.Add(id);
            }
            catch (SnapshotException e) when (e.Kind == SnapshotErrorKind.NotFound)
            {
                // Deleted since it was listed.
            }
        }

        var writing = new HashSet<string>(StringComparer.Ordinal);
        var old = new List<BlobInfo>();
        foreach (var intent in await ListAsync(folders.Intents, cancellationToken).ConfigureAwait(false))
        {
            if (clock.GetUtcNow() - intent.WrittenAt > SnapshotStore.IntentLife)
            {
                old.Add(intent);
                continue;
            }

            var id = Path.GetFileName(intent.Name);
            writing.Add(id);
            var parent = Encoding.UTF8.GetString(await blobs.ReadAsync(intent.Name, 0, null, cancellationToken).ConfigureAwait(false) ?? []);
            if (parent.Length > 0 && !snapshots.Contains(parent) && !snapshots.Contains(id))
            {
                // It may refer to packs of a parent that was deleted under it, and nobody can tell which.
                logger.LogInformation("Nothing is collected now: snapshot {Snapshot} may still be written, and its parent {Parent} was deleted", id, parent);
                return 0;
            }
        }

        var freed = 0L;
        foreach (var pack in packs)
        {
            // A pack is named "snapshot.number"; what is not was put there by somebody else.
            var name = Path.GetFileName(pack.Name);
            if (name.LastIndexOf('.') is var dot and > 0 && !used.Contains(name) && !writing.Contains(name[..dot]))
            {
                await blobs.DeleteAsync(pack.Name, cancellationToken).ConfigureAwait(false);
                freed += pack.Length;
            }
        }

        // Last: while their packs are there, so are they.
        foreach (var intent in old)
        {
            await blobs.DeleteAsync(intent.Name, cancellationToken).ConfigureAwait(false);
        }

        return freed;
    }

    private ValueTask<List<BlobInfo>> ListAsync(string folder, CancellationToken cancellationToken) => blobs.ListAsync(folder, cancellationToken).ToListAsync(cancellationToken);
}
