using Sandbox.Snapshots.Blobs;

namespace Sandbox.Snapshots.Chunks;

/// <summary>Reads chunks back. Chunks that lie side by side in a pack are fetched together: an object store answers a large request as soon as a small one.</summary>
internal sealed class ChunkReader(IBlobStore blobs, string folder, string what, ChunkCodec codec)
{
    private const int MostAtOnce = 4 << 20;

    /// <summary>The contents of chunks in the order given. What has no chunk comes out empty.</summary>
    /// <exception cref="SnapshotException"><see cref="SnapshotErrorKind.Corrupt"/> where one is missing or is not what it was.</exception>
    public async IAsyncEnumerable<(T Entry, byte[] Content)> ReadAsync<T>(
        IReadOnlyList<T> entries, Func<T, StoredChunk?> chunkOf, [System.Runtime.CompilerServices.EnumeratorCancellation] CancellationToken cancellationToken)
    {
        for (var i = 0; i < entries.Count;)
        {
            if (chunkOf(entries[i]) is not { } first)
            {
                yield return (entries[i++], []);
                continue;
            }

            var end = i + 1;
            var length = first.Length;
            while (end < entries.Count && chunkOf(entries[end]) is { } next && next.Pack == first.Pack
                && next.Offset == first.Offset + length && length + next.Length <= MostAtOnce)
            {
                length += next.Length;
                end++;
            }

            var stored = await blobs.ReadAsync($"{folder}/{first.Pack}", first.Offset, length, cancellationToken).ConfigureAwait(false);
            if (stored?.Length != length)
            {
                throw new SnapshotException(SnapshotErrorKind.Corrupt, $"{what} cannot be read: its pack {first.Pack} {(stored is null ? "is missing" : "was cut short")}. Use an older checkpoint.");
            }

            for (var at = 0; i < end; i++)
            {
                var chunk = chunkOf(entries[i])!;
                yield return (entries[i], codec.Decode(stored.AsSpan(at, chunk.Length), chunk.Id.Bytes)
                    ?? throw new SnapshotException(SnapshotErrorKind.Corrupt, $"{what} cannot be read: a chunk of its pack {chunk.Pack} was damaged. Use an older checkpoint."));
                at += chunk.Length;
            }
        }
    }
}
