using Sandbox.Isolation.Backends;
using Sandbox.Snapshots.Blobs;
using Sandbox.Snapshots.Chunks;
using Sandbox.Snapshots.Manifests;

namespace Sandbox.Snapshots;

/// <summary>
/// Writes one snapshot: a machine, files, or both. Nothing of it exists for readers before <see cref="CommitAsync"/>; what a writer that was dropped or died has stored by then is collected
/// (see <see cref="SnapshotStore.CollectAsync"/>). One caller at a time. Failures of the store come out as <see cref="SnapshotException"/>.
/// </summary>
public sealed class SnapshotWriter : IMachineSink, IDisposable
{
    /// <summary>A file is cut into pieces of this many bytes; one that only grew shares all but the last with the parent.</summary>
    private const int FilePiece = 1 << 20;

    /// <summary>The file that the memo of the guest's channel is kept in.</summary>
    internal const string GuestFile = "guest";

    private readonly SnapshotRequest _request;
    private readonly TenantFolders _folders;
    private readonly IBlobStore _blobs;
    private readonly ChunkCodec _codec;
    private readonly TimeProvider _clock;
    private readonly DateTimeOffset _begun;
    private readonly PackWriter _packs;
    private readonly RegionWriter _memory;
    private readonly RegionWriter _disk;
    private readonly List<ManifestFile> _files = [];
    private MachineFacts? _machine;
    private StoredChunk? _devices;
    private bool _committed;

    internal SnapshotWriter(SnapshotRequest request, TenantFolders folders, IBlobStore blobs, ChunkCodec codec, Manifest? parent, DateTimeOffset begun, TimeProvider clock)
    {
        (_request, _folders, _blobs, _codec, _begun, _clock) = (request, folders, blobs, codec, begun, clock);
        var known = new Dictionary<ChunkId, StoredChunk>();
        foreach (var chunk in parent?.Chunks ?? [])
        {
            known[chunk.Id] = chunk;
        }

        _packs = new PackWriter(blobs, folders.Packs, request.SnapshotId, codec, known);
        _memory = new RegionWriter(MachineBlock.MemoryBlock, _packs);
        _disk = new RegionWriter(MachineBlock.DiskBlock, _packs);
    }

    /// <summary>The machine, once it has begun; <see langword="null"/> where only files are saved.</summary>
    public MachineFacts? Machine => _machine;

    /// <inheritdoc/>
    public string StateName => _request.SnapshotId;

    /// <inheritdoc/>
    public Task BeginAsync(MachineFacts facts, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(facts);
        _machine = _machine is null ? facts : throw new InvalidOperationException($"Snapshot {_request.SnapshotId} has a machine already.");
        return Task.CompletedTask;
    }

    /// <inheritdoc/>
    public async Task WriteDevicesAsync(ReadOnlyMemory<byte> devices, CancellationToken cancellationToken) => _devices = await _packs.AddAsync(devices, cancellationToken).ConfigureAwait(false);

    /// <inheritdoc/>
    public Task WriteGuestAsync(ReadOnlyMemory<byte> memo, CancellationToken cancellationToken) => WriteFileAsync(GuestFile, new MemoryStream(memo.ToArray(), writable: false), cancellationToken);

    /// <inheritdoc/>
    public ValueTask WriteMemoryAsync(MachineBlock block, CancellationToken cancellationToken) => _memory.AddAsync(Within(block, MachineBlock.MemoryBlock, _machine?.MemoryBytes), cancellationToken);

    /// <inheritdoc/>
    public ValueTask WriteDiskAsync(MachineBlock block, CancellationToken cancellationToken) => _disk.AddAsync(Within(block, MachineBlock.DiskBlock, _machine?.DiskBytes), cancellationToken);

    /// <summary>Saves a file beside the machine: what is needed to go on with it, and is not inside it.</summary>
    /// <exception cref="ArgumentException">The name is empty or was used before.</exception>
    public async Task WriteFileAsync(string name, Stream content, CancellationToken cancellationToken)
    {
        ArgumentException.ThrowIfNullOrEmpty(name);
        ArgumentNullException.ThrowIfNull(content);
        if (_files.Any(f => f.Name == name))
        {
            throw new ArgumentException($"Snapshot {_request.SnapshotId} has a file {name} already.", nameof(name));
        }

        var pieces = new List<StoredChunk>();
        var buffer = new byte[FilePiece];
        while (await content.ReadAtLeastAsync(buffer, buffer.Length, throwOnEndOfStream: false, cancellationToken).ConfigureAwait(false) is var read and > 0)
        {
            pieces.Add(await _packs.AddAsync(buffer.AsMemory(0, read), cancellationToken).ConfigureAwait(false));
        }

        _files.Add(new ManifestFile(name, pieces));
    }

    /// <summary>Makes the snapshot exist: when this returns it is whole and durable. If it fails with anything but <see cref="SnapshotErrorKind.AlreadyExists"/> the snapshot may exist nevertheless; ask for it.</summary>
    /// <exception cref="SnapshotException">
    /// <see cref="SnapshotErrorKind.AlreadyExists"/>, <see cref="SnapshotErrorKind.NoSpace"/>, <see cref="SnapshotErrorKind.Unavailable"/>, or <see cref="SnapshotErrorKind.Expired"/>: writing took longer than
    /// <see cref="SnapshotStore.LongestWrite"/>.
    /// </exception>
    public async Task<SnapshotInfo> CommitAsync(CancellationToken cancellationToken)
    {
        if (_committed || (_machine is not null && _devices is null))
        {
            throw new InvalidOperationException($"Snapshot {_request.SnapshotId} {(_committed ? "is committed" : "has a machine without devices")}.");
        }

        await _memory.FlushAsync(cancellationToken).ConfigureAwait(false);
        await _disk.FlushAsync(cancellationToken).ConfigureAwait(false);
        await _packs.FlushAsync(cancellationToken).ConfigureAwait(false);
        if (_clock.GetUtcNow() - _begun > SnapshotStore.LongestWrite)
        {
            throw new SnapshotException(SnapshotErrorKind.Expired, $"Snapshot {_request.SnapshotId} took longer than {SnapshotStore.LongestWrite.TotalHours:0} h to write and was given up.");
        }

        var manifest = new Manifest
        {
            SnapshotId = _request.SnapshotId,
            SessionId = _request.SessionId,
            ParentId = _request.ParentId,
            CreatedAt = _begun,
            StoredBytes = _packs.StoredBytes,
            Machine = _machine,
            Devices = _devices,
            Memory = _memory.Regions,
            Disk = _disk.Regions,
            Files = _files,
        };
        var name = _folders.Manifest(_request.SnapshotId);
        try
        {
            await _blobs.PutAsync(name, _codec.Encode(ManifestFormat.Write(manifest), SnapshotStore.Binding(name)), cancellationToken).ConfigureAwait(false);
        }
        catch (SnapshotException e) when (e.Kind == SnapshotErrorKind.AlreadyExists)
        {
            throw SnapshotStore.Exists(_request.SnapshotId, e);
        }

        _committed = true;
        return SnapshotStore.Describe(manifest);
    }

    /// <summary>Lets go of keys and buffers. A snapshot that was not committed never existed.</summary>
    public void Dispose() => _codec.Dispose();

    private MachineBlock Within(MachineBlock block, int blockBytes, long? end) =>
        end is null
            ? throw new InvalidOperationException($"Snapshot {_request.SnapshotId} has no machine yet.")
            : block.Index >= 0 && (block.Index * blockBytes) + block.Data.Length <= end
            ? block
            : throw new ArgumentException($"Block {block.Index} of {block.Data.Length} bytes lies beyond {end} bytes.", nameof(block));
}
