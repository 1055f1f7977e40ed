namespace Sandbox.Snapshots;

/// <summary>Kinds of failure of the snapshot store, each of which a caller meets differently.</summary>
public enum SnapshotErrorKind
{
    /// <summary>There is no such snapshot.</summary>
    NotFound,

    /// <summary>A snapshot of that id exists; snapshots are never overwritten.</summary>
    AlreadyExists,

    /// <summary>Something of it is missing, changed, or encrypted under another key. It cannot be restored; an older one may still be.</summary>
    Corrupt,

    /// <summary>The store has no space left.</summary>
    NoSpace,

    /// <summary>The store cannot be reached or refuses to work. Trying again later may help.</summary>
    Unavailable,

    /// <summary>The snapshot took so long to write that what it refers to may have been collected.</summary>
    Expired,
}

/// <summary>Why the snapshot store could not do what was asked. The message names the snapshot and is fit for users.</summary>
public sealed class SnapshotException(SnapshotErrorKind kind, string message, Exception? inner = null) : Exception(message, inner)
{
    /// <summary>The kind.</summary>
    public SnapshotErrorKind Kind => kind;
}
