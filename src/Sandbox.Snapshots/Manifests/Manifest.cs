using Sandbox.Isolation.Backends;
using Sandbox.Snapshots.Chunks;

namespace Sandbox.Snapshots.Manifests;

/// <summary>All of a snapshot but its bytes. Every chunk is listed with its place, also those that an ancestor stored, so that no ancestor is needed to read it.</summary>
internal sealed record Manifest
{
    public required string SnapshotId { get; init; }

    public required string SessionId { get; init; }

    public string? ParentId { get; init; }

    public required DateTimeOffset CreatedAt { get; init; }

    /// <summary>Bytes this snapshot added to the store.</summary>
    public required long StoredBytes { get; init; }

    /// <summary><see langword="null"/> where no machine was saved, only files.</summary>
    public MachineFacts? Machine { get; init; }

    public StoredChunk? Devices { get; init; }

    public IReadOnlyList<ManifestRegion> Memory { get; init; } = [];

    public IReadOnlyList<ManifestRegion> Disk { get; init; } = [];

    public IReadOnlyList<ManifestFile> Files { get; init; } = [];

    /// <summary>Every chunk it needs.</summary>
    public IEnumerable<StoredChunk> Chunks =>
        (Devices is { } d ? [d] : Array.Empty<StoredChunk>()).Concat(Memory.Concat(Disk).Select(r => r.Chunk).OfType<StoredChunk>()).Concat(Files.SelectMany(f => f.Chunks));
}

/// <summary>
/// Up to 32 neighbouring blocks. Of the blocks that are <paramref name="Present"/>, those that are not <paramref name="Zero"/> follow each other in the chunk, lowest first.
/// </summary>
internal sealed record ManifestRegion(long Index, uint Present, uint Zero, StoredChunk? Chunk);

/// <summary>A file that was saved beside the machine.</summary>
internal sealed record ManifestFile(string Name, IReadOnlyList<StoredChunk> Chunks);
