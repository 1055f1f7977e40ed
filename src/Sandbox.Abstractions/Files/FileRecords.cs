namespace Sandbox.Abstractions;

/// <summary>What a path leads to.</summary>
[GenerateSerializer, Alias("sandbox.file-kind")]
public enum FileKind
{
    /// <summary>A device, socket or pipe.</summary>
    Other = 0,

    /// <summary>A regular file.</summary>
    File = 1,

    /// <summary>A directory.</summary>
    Directory = 2,

    /// <summary>A symbolic link.</summary>
    Symlink = 3,
}

/// <summary>One file as the guest describes it. Names are the guest's own choice: escape them before showing them.</summary>
[GenerateSerializer, Alias("sandbox.file-entry"), Immutable]
public sealed record FileEntry
{
    /// <summary>Absolute path in the guest.</summary>
    [Id(0)] public required string Path { get; init; }

    /// <summary>What it is.</summary>
    [Id(1)] public required FileKind Kind { get; init; }

    /// <summary>Size in bytes.</summary>
    [Id(2)] public long Size { get; init; }

    /// <summary>Permission bits.</summary>
    [Id(3)] public int Mode { get; init; }

    /// <summary>Owner's name, or number where it has none.</summary>
    [Id(4)] public string Owner { get; init; } = "";

    /// <summary>Group's name, or number.</summary>
    [Id(5)] public string Group { get; init; } = "";

    /// <summary>Last change of the contents (UTC).</summary>
    [Id(6)] public DateTimeOffset ModifiedAt { get; init; }

    /// <summary>Where a symbolic link points.</summary>
    [Id(7)] public string? SymlinkTarget { get; init; }

    /// <summary>Labels given when it was written, kept as extended attributes <c>user.sandbox.*</c>; programs in the guest can change them.</summary>
    [Id(8)] public Dictionary<string, string> Metadata { get; init; } = [];
}

/// <summary>What to list.</summary>
[GenerateSerializer, Alias("sandbox.list-files"), Immutable]
public sealed record ListFilesRequest
{
    /// <summary>Directory.</summary>
    [Id(0)] public required string Path { get; init; }

    /// <summary>1: its own entries; more: below them too. At most 32.</summary>
    [Id(1)] public int Depth { get; init; } = 1;

    /// <summary>Most entries, 1 to 1000.</summary>
    [Id(2)] public int Limit { get; init; } = 1000;

    /// <summary>Continue after this path.</summary>
    [Id(3)] public string? After { get; init; }

    /// <summary>User inside the guest.</summary>
    [Id(4)] public string? User { get; init; }
}

/// <summary>A page of a listing.</summary>
[GenerateSerializer, Alias("sandbox.file-page"), Immutable]
public sealed record FilePage([property: Id(0)] IReadOnlyList<FileEntry> Entries, [property: Id(1)] bool More);

/// <summary>What to open for writing.</summary>
[GenerateSerializer, Alias("sandbox.open-write"), Immutable]
public sealed record OpenWriteRequest
{
    /// <summary>Path.</summary>
    [Id(0)] public required string Path { get; init; }

    /// <summary>User inside the guest.</summary>
    [Id(1)] public string? User { get; init; }

    /// <summary>Permission bits; unset: 0644.</summary>
    [Id(2)] public int? Mode { get; init; }

    /// <summary>Make missing parent directories. Default true.</summary>
    [Id(3)] public bool MakeParents { get; init; } = true;

    /// <summary>Append in place.</summary>
    [Id(4)] public bool Append { get; init; }

    /// <summary>Labels of the file from now on: those it had are gone. Printable ASCII; names of 1 to 240 characters; 4096 bytes in all. Not with <see cref="Append"/>.</summary>
    [Id(5)] public Dictionary<string, string> Metadata { get; init; } = [];
}

/// <summary>An open file. The handle is good for the microVM that gave it and is closed after 5 minutes without use.</summary>
[GenerateSerializer, Alias("sandbox.opened-file"), Immutable]
public sealed record OpenedFile([property: Id(0)] string Handle, [property: Id(1)] FileEntry Entry);
