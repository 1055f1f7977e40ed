namespace Sandbox.Isolation.Backends;

/// <summary>A golden snapshot: a booted machine with warm interpreters, kept on this host, from which others are cloned.</summary>
/// <param name="Fingerprint">
/// Hash of everything a saved machine silently depends on: VMM version and arguments, CPU and clock, kernel, initramfs, root image, sizes. Where any of it changes, another snapshot is made.
/// </param>
/// <param name="Directory">Its files.</param>
/// <param name="BuiltAt">When it was made (UTC).</param>
/// <param name="MemoryBytes">Bytes of its memory that are not zero; clones share them until they write.</param>
public sealed record GoldenSnapshot(string Fingerprint, string Directory, DateTimeOffset BuiltAt, long MemoryBytes);
