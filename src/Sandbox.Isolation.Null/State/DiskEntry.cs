namespace Sandbox.Isolation.Null.State;

/// <summary>A file or a directory on a machine's disk.</summary>
/// <param name="Path">Absolute.</param>
/// <param name="Content">Its bytes; <see langword="null"/> for a directory.</param>
/// <param name="Modified">When it was last written, in nanoseconds since 1970.</param>
internal sealed record DiskEntry(string Path, byte[]? Content, long Modified);
