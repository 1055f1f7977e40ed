namespace Sandbox.Isolation.Backends;

/// <summary>A golden snapshot: a booted machine with warm interpreters, kept on this host, from which others are cloned.</summary>
/// <param name="Fingerprint">
/// Hash of everything a saved machine silently depends on: VMM version and arguments, CPU and clock, kernel, initramfs, root image, sizes. Where any of it changes, another snapshot is made.
/// </param>
/// <param name="Id">Hash of its content. Saved machines are differences from exactly one golden snapshot, and two hosts that make one each make two.</param>
/// <param name="Directory">Its files.</param>
/// <param name="BuiltAt">When it was made (UTC).</param>
/// <param name="MemoryBytes">Bytes of its memory that are not zero; clones share them until they write.</param>
public sealed record GoldenSnapshot(string Fingerprint, string Id, string Directory, DateTimeOffset BuiltAt, long MemoryBytes);

/// <summary>Whether a saved machine can be brought back on this host.</summary>
public enum RestoreFit
{
    /// <summary>It can.</summary>
    Ready = 0,

    /// <summary>It could, but the golden snapshot that it is a difference from is not here yet: see <see cref="IIsolationBackend.ImportGoldenAsync"/>.</summary>
    NeedsGolden = 1,

    /// <summary>It cannot: VMM, processor, image or sizes are others than where it was saved.</summary>
    Foreign = 2,
}
