namespace Sandbox.Snapshots.Chunks;

/// <summary>The keyed hash that names a chunk.</summary>
internal readonly struct ChunkId(byte[] bytes) : IEquatable<ChunkId>
{
    public byte[] Bytes => bytes;

    public bool Equals(ChunkId other) => bytes.AsSpan().SequenceEqual(other.Bytes);

    public override bool Equals(object? obj) => obj is ChunkId other && Equals(other);

    public override int GetHashCode() => BitConverter.ToInt32(bytes);
}
