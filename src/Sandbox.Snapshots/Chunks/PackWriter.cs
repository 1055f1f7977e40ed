using Sandbox.Snapshots.Blobs;

namespace Sandbox.Snapshots.Chunks;

/// <summary>
/// Puts chunks together into packs, because object stores charge, and file systems suffer, by the object. A chunk that the parent snapshot or this one has already is not stored again.
/// </summary>
internal sealed class PackWriter(IBlobStore blobs, string folder, string snapshotId, ChunkCodec codec, IReadOnlyDictionary<ChunkId, ChunkPlace> known)
{
    /// <summary>A pack is closed once it is as long as this.</summary>
    public const int PackBytes = 16 << 20;

    private readonly Dictionary<ChunkId, ChunkPlace> _written = [];
    private readonly MemoryStream _pack = new();
    private int _packs;

    /// <summary>Bytes stored so far, without what was there already.</summary>
    public long StoredBytes { get; private set; }

    /// <summary>Stores a content and returns its name and place. What it is in is durable after <see cref="FlushAsync"/>.</summary>
    public async ValueTask<(ChunkId Id, ChunkPlace Place)> AddAsync(ReadOnlyMemory<byte> content, CancellationToken cancellationToken)
    {
        var id = new ChunkId(codec.IdOf(content.Span));
        if (known.TryGetValue(id, out var place) || _written.TryGetValue(id, out place))
        {
            return (id, place);
        }

        var stored = codec.Encode(content.Span, id.Bytes);
        place = new ChunkPlace(Name, (int)_pack.Length, stored.Length);
        _pack.Write(stored);
        _written.Add(id, place);
        StoredBytes += stored.Length;
        if (_pack.Length >= PackBytes)
        {
            await FlushAsync(cancellationToken).ConfigureAwait(false);
        }

        return (id, place);
    }

    public async Task FlushAsync(CancellationToken cancellationToken)
    {
        if (_pack.Length > 0)
        {
            await blobs.PutAsync($"{folder}/{Name}", _pack.GetBuffer().AsMemory(0, (int)_pack.Length), cancellationToken).ConfigureAwait(false);
            _packs++;
            _pack.SetLength(0);
        }
    }

    private string Name => $"{snapshotId}.{_packs}";
}

/// <summary>The keyed hash that names a chunk.</summary>
internal readonly struct ChunkId(byte[] bytes) : IEquatable<ChunkId>
{
    public byte[] Bytes => bytes;

    public bool Equals(ChunkId other) => bytes.AsSpan().SequenceEqual(other.Bytes);

    public override bool Equals(object? obj) => obj is ChunkId other && Equals(other);

    public override int GetHashCode() => BitConverter.ToInt32(bytes);
}
