namespace Sandbox.Wasm.Worker.Volume;

internal enum NodeKind : byte
{
    File = 1,
    Directory = 2,
    Link = 3,
}

/// <summary>A file, directory or symbolic link. Guarded by its volume's lock.</summary>
internal sealed class Node(ulong id, NodeKind kind, uint mode, long now)
{
    public ulong Id { get; } = id;

    public NodeKind Kind { get; } = kind;

    /// <summary>Permission bits. Kept and told, not enforced: a session has one user.</summary>
    public uint Mode { get; set; } = mode;

    /// <summary>In nanoseconds since 1970.</summary>
    public long Modified { get; set; } = now;

    public long Accessed { get; set; } = now;

    public long Changed { get; set; } = now;

    public long Size { get; set; }

    /// <summary>Where a file's blocks are; what is not named is a hole.</summary>
    public Extents Extents { get; } = new();

    /// <summary>Names in a directory.</summary>
    public Dictionary<string, Node>? Children { get; } = kind == NodeKind.Directory ? new(StringComparer.Ordinal) : null;

    /// <summary>Where a link points.</summary>
    public string Target { get; init; } = "";

    /// <summary>The directory that a directory is in; <see langword="null"/> for the root, and for one that was removed.</summary>
    public Node? Parent { get; set; }

    /// <summary>A directory's name in its parent, so that its path can be told.</summary>
    public string Name { get; set; } = "";

    public Dictionary<string, string>? Labels { get; set; }

    /// <summary>Names that lead here.</summary>
    public int Links { get; set; }

    /// <summary>Open descriptors; a file without names lives as long as it has any.</summary>
    public int Opens { get; set; }

    /// <summary>Content of a file that is part of this program.</summary>
    public byte[]? Static { get; init; }
}
