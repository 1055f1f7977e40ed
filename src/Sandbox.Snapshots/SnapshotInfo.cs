using Sandbox.Isolation.Backends;

namespace Sandbox.Snapshots;

/// <summary>What is known of a snapshot without reading it.</summary>
/// <param name="SnapshotId">Its id, unique for its tenant.</param>
/// <param name="SessionId">The session it was taken of.</param>
/// <param name="ParentId">The snapshot it shares chunks with, if any. It can be deleted without harm.</param>
/// <param name="CreatedAt">When it was begun (UTC).</param>
/// <param name="StoredBytes">Bytes it added to the store: compressed, and without what was there already.</param>
/// <param name="Machine">The machine, or <see langword="null"/> where only files were saved.</param>
/// <param name="Files">Names of the files saved beside it.</param>
public sealed record SnapshotInfo(
    string SnapshotId, string SessionId, string? ParentId, DateTimeOffset CreatedAt, long StoredBytes, MachineFacts? Machine, IReadOnlyList<string> Files);

/// <summary>What a snapshot is begun with.</summary>
/// <param name="Tenant">Whose it is, and under whose key.</param>
/// <param name="SnapshotId">Its id: letters, digits, <c>-</c> and <c>_</c>, at most 64. Never used before.</param>
/// <param name="SessionId">The session.</param>
/// <param name="ParentId">A snapshot of the same tenant that probably holds much of the same, or <see langword="null"/>.</param>
public sealed record SnapshotRequest(string Tenant, string SnapshotId, string SessionId, string? ParentId);
