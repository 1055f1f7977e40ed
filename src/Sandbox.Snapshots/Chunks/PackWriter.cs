using Sandbox.Snapshots.Blobs;

namespace Sandbox.Snapshots.Chunks;

/// <summary>
/// Puts chunks together into packs, because object stores charge, and file systems suffer, by the object. A chunk that the parent snapshot or this one has already is not stored again.
/// </summary>
internal sealed class PackWriter(IBlobStore blobs, string folder, string snapshotId, ChunkCodec codec, IReadOnlyDictionary<ChunkId, StoredChunk> known)
{
    /// <summary>A pack is closed once it is as long as this.</summary>
    public const int PackBytes = 16 << 20;

    private readonly Dictionary<ChunkId, StoredChunk> _written = [];
    private readonly MemoryStream _pack = new();
    private int _packs;

    /// <summary>Bytes stored so far, without what was there already.</summary>
    public long StoredBytes { get; private set; }

    /// <summary>Stores a content. The pack it is in is durable after <see cref="FlushAsync"/>.</summary>
    public async ValueTask<StoredChunk> AddAsync(ReadOnlyMemory<byte> content, CancellationToken cancellationToken)
    {
        var id = new ChunkId(codec.IdOf(content.Span));
        if (known.TryGetValue(id, out var chunk) || _written.TryGetValue(id, out chunk))
        {
            return chunk;
        }

        var stored = codec.Encode(content.Span, id.Bytes);
        chunk = new StoredChunk(id, Name, (int)_pack.Length, stored.Length);
        _pack.Write(stored);
        _written.Add(id, chunk);
        StoredBytes += stored.Length;
        if (_pack.Length >= PackBytes)
        {
            await FlushAsync(cancellationToken).ConfigureAwait(false);
        }

        return chunk;
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
