namespace Sandbox.Snapshots.Chunks;

/// <summary>Where a chunk is stored.</summary>
/// <param name="Pack">Name of the pack, within the tenant's.</param>
/// <param name="Offset">Where it begins there.</param>
/// <param name="Length">Stored bytes.</param>
internal readonly record struct ChunkPlace(string Pack, int Offset, int Length);
