using System.Numerics;
using System.Runtime.CompilerServices;
using Sandbox.Isolation.Backends;
using Sandbox.Snapshots.Blobs;
using Sandbox.Snapshots.Chunks;
using Sandbox.Snapshots.Manifests;

namespace Sandbox.Snapshots;

/// <summary>
/// Reads one snapshot. Every chunk is authenticated before a byte of it is handed out; what is missing or damaged is a <see cref="SnapshotException"/> that names the snapshot. One reader at a time.
/// </summary>
public sealed class SnapshotReader : IMachineSource, IDisposable
{
    private readonly Manifest _manifest;
    private readonly ChunkCodec _codec;
    private readonly ChunkReader _chunks;

    internal SnapshotReader(Manifest manifest, TenantFolders folders, IBlobStore blobs, ChunkCodec codec)
    {
        (_manifest, _codec) = (manifest, codec);
        _chunks = new ChunkReader(blobs, folders.Packs, $"Snapshot {manifest.SnapshotId} of session {manifest.SessionId}", codec);
        Info = SnapshotStore.Describe(manifest);
    }

    /// <summary>What it is.</summary>
    public SnapshotInfo Info { get; }

    /// <inheritdoc/>
    /// <exception cref="InvalidOperationException">It has no machine, only files.</exception>
    public MachineFacts Facts => _manifest.Machine ?? throw new InvalidOperationException($"Snapshot {_manifest.SnapshotId} has no machine.");

    /// <inheritdoc/>
    public async Task<byte[]> ReadDevicesAsync(CancellationToken cancellationToken)
    {
        var devices = _manifest.Devices ?? throw new InvalidOperationException($"Snapshot {_manifest.SnapshotId} has no machine.");
        var (_, content) = await _chunks.ReadAsync([devices], c => c, cancellationToken).FirstAsync(cancellationToken).ConfigureAwait(false);
        return content;
    }

    /// <inheritdoc/>
    public async Task<byte[]> ReadGuestAsync(CancellationToken cancellationToken)
    {
        using var memo = new MemoryStream();
        await ReadFileAsync(SnapshotWriter.GuestFile, memo, cancellationToken).ConfigureAwait(false);
        return memo.ToArray();
    }

    /// <inheritdoc/>
    public IAsyncEnumerable<MachineBlock> ReadMemoryAsync(CancellationToken cancellationToken) => BlocksAsync(_manifest.Memory, MachineBlock.MemoryBlock, cancellationToken);

    /// <inheritdoc/>
    public IAsyncEnumerable<MachineBlock> ReadDiskAsync(CancellationToken cancellationToken) => BlocksAsync(_manifest.Disk, MachineBlock.DiskBlock, cancellationToken);

    /// <summary>Writes a file of the snapshot to a stream.</summary>
    /// <exception cref="SnapshotException"><see cref="SnapshotErrorKind.NotFound"/>: the snapshot has no such file.</exception>
    public async Task ReadFileAsync(string name, Stream to, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(to);
        var file = _manifest.Files.FirstOrDefault(f => f.Name == name)
            ?? throw new SnapshotException(SnapshotErrorKind.NotFound, $"Snapshot {_manifest.SnapshotId} has no file {name}.");
        await foreach (var (_, content) in _chunks.ReadAsync(file.Chunks, c => c, cancellationToken).ConfigureAwait(false))
        {
            await to.WriteAsync(content, cancellationToken).ConfigureAwait(false);
        }
    }

    /// <summary>Reads everything and keeps nothing: afterwards it is known that the snapshot can be restored.</summary>
    /// <exception cref="SnapshotException"><see cref="SnapshotErrorKind.Corrupt"/>, or <see cref="SnapshotErrorKind.Unavailable"/>.</exception>
    public async Task VerifyAsync(CancellationToken cancellationToken)
    {
        await foreach (var _ in _chunks.ReadAsync([.. _manifest.Chunks], c => c, cancellationToken).ConfigureAwait(false))
        {
            // Read is verified.
        }
    }

    /// <summary>Lets go of keys.</summary>
    public void Dispose() => _codec.Dispose();

    private async IAsyncEnumerable<MachineBlock> BlocksAsync(IReadOnlyList<ManifestRegion> regions, int blockBytes, [EnumeratorCancellation] CancellationToken cancellationToken)
    {
        await foreach (var (region, content) in _chunks.ReadAsync(regions, r => r.Chunk, cancellationToken).ConfigureAwait(false))
        {
            var at = 0;
            for (var rest = region.Present; rest != 0; rest &= rest - 1)
            {
                var bit = BitOperations.TrailingZeroCount(rest);
                var length = (region.Zero & (1u << bit)) != 0 ? 0 : Math.Min(blockBytes, content.Length - at);
                yield return new MachineBlock((region.Index * RegionWriter.BlocksInRegion) + bit, content.AsMemory(at, length));
                at += length;
            }
        }
    }
}
