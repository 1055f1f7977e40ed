using Microsoft.Extensions.Logging;
using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Images;
using Sandbox.Snapshots;

namespace Sandbox.Grains.Hosts.Snapshots;

/// <summary>
/// Golden snapshots in the snapshot store, so that a machine saved on one host can be restored on another: it is a difference from the very golden snapshot that it was cloned from. They belong to a tenant of
/// the system. A golden snapshot is stored once by whoever first needs it there.
/// </summary>
internal sealed class GoldenExchange(SnapshotStore store, ILogger logger)
{
    private const string Tenant = "@golden";
    private readonly SemaphoreSlim _turn = new(1, 1);
    private readonly HashSet<string> _stored = new(StringComparer.Ordinal);

    /// <summary>Makes sure that a golden snapshot of this host is in the store.</summary>
    public async Task OfferAsync(IIsolationBackend backend, string imageDirectory, TemplateSizes sizes, string goldenId, CancellationToken cancellationToken)
    {
        await _turn.WaitAsync(cancellationToken);
        try
        {
            if (_stored.Contains(goldenId))
            {
                return;
            }

            if (await FindAsync(goldenId, cancellationToken) is null)
            {
                // A number of its own for each attempt: ids are used once, also those of writers that died.
                var id = Prefix(goldenId) + Guid.NewGuid().ToString("N")[..16];
                using var writer = await store.BeginAsync(new SnapshotRequest(Tenant, id, goldenId, null), cancellationToken);
                await backend.ExportGoldenAsync(imageDirectory, sizes, goldenId, writer, cancellationToken);
                var info = await writer.CommitAsync(cancellationToken);
                logger.LogInformation("Golden snapshot {Golden} was put into the snapshot store: {MiB} MiB", goldenId, info.StoredBytes >> 20);
            }

            _stored.Add(goldenId);
        }
        finally
        {
            _turn.Release();
        }
    }

    /// <summary>Brings a golden snapshot from the store to this host.</summary>
    /// <exception cref="IsolationException">The store does not have it.</exception>
    public async Task FetchAsync(IIsolationBackend backend, string imageDirectory, TemplateSizes sizes, string goldenId, CancellationToken cancellationToken)
    {
        var id = await FindAsync(goldenId, cancellationToken)
            ?? throw new IsolationException($"the golden snapshot {goldenId}, which the saved machine is a difference from, is neither on this host nor in the snapshot store");
        using var reader = await store.OpenAsync(Tenant, id, cancellationToken);
        await backend.ImportGoldenAsync(imageDirectory, sizes, goldenId, reader, cancellationToken);
        logger.LogInformation("Golden snapshot {Golden} was taken from the snapshot store", goldenId);
    }

    private async Task<string?> FindAsync(string goldenId, CancellationToken cancellationToken)
    {
        await foreach (var id in store.ListAsync(Tenant, cancellationToken))
        {
            if (id.StartsWith(Prefix(goldenId), StringComparison.Ordinal))
            {
                return id;
            }
        }

        return null;
    }

    /// <summary>An id of the store has at most 64 characters; what was fetched is checked against the whole id.</summary>
    private static string Prefix(string goldenId) => goldenId[..Math.Min(goldenId.Length, 40)] + "-";
}
