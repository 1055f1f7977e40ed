namespace Sandbox.Isolation.Firecracker.Api;

/// <summary>Writes a paused machine into two files.</summary>
/// <param name="SnapshotType"><c>Full</c>, or <c>Diff</c>: only pages written since the last snapshot, or since the machine's beginning.</param>
/// <param name="SnapshotPath">File of the state of CPU and devices.</param>
/// <param name="MemFilePath">File of the memory; of a difference, with holes.</param>
internal sealed record SnapshotCreate(string SnapshotType, string SnapshotPath, string MemFilePath);

/// <summary>Loads a machine, paused, into a fresh process. Which of the two names for tracking written pages is understood depends on the version.</summary>
internal sealed record SnapshotLoad(string SnapshotPath, MemoryBackend MemBackend, bool? TrackDirtyPages, bool? EnableDiffSnapshots, bool ResumeVm);

/// <summary>Where a loaded machine's memory comes from.</summary>
/// <param name="BackendType"><c>File</c>: mapped privately. <c>Uffd</c>: whoever listens at the socket <paramref name="BackendPath"/> serves each page when it is first touched.</param>
/// <param name="BackendPath">The file or the socket.</param>
internal sealed record MemoryBackend(string BackendType, string BackendPath);
