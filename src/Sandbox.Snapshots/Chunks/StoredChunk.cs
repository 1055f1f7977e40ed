namespace Sandbox.Snapshots.Chunks;

/// <summary>A chunk in the store.</summary>
/// <param name="Id">Its name.</param>
/// <param name="Pack">The pack it is in, by its name within the tenant's.</param>
/// <param name="Offset">Where it begins there.</param>
/// <param name="Length">Stored bytes.</param>
internal sealed record StoredChunk(ChunkId Id, string Pack, int Offset, int Length);
