namespace Sandbox.Abstractions;

/// <summary>What happened to a watched file.</summary>
[GenerateSerializer, Alias("sandbox.file-change")]
public enum FileChange
{
    /// <summary>It appeared, or was moved here.</summary>
    Created = 1,

    /// <summary>Its contents changed.</summary>
    Written = 2,

    /// <summary>It was removed.</summary>
    Removed = 3,

    /// <summary>It was moved away from this name.</summary>
    Renamed = 4,

    /// <summary>Its permissions, owner or attributes changed.</summary>
    Attributes = 5,
}

/// <summary>One event of a watch.</summary>
/// <param name="Change">What happened.</param>
/// <param name="Path">Absolute path in the guest.</param>
[GenerateSerializer, Alias("sandbox.file-event"), Immutable]
public sealed record FileEvent([property: Id(0)] FileChange Change, [property: Id(1)] string Path);

/// <summary>Events of a watch, in order.</summary>
/// <param name="Events">At most 1000.</param>
/// <param name="Dropped">How many were lost before these, because nobody read or the guest was too fast.</param>
/// <param name="Closed">The watch has ended (its directory or its microVM is gone): there will be no more.</param>
[GenerateSerializer, Alias("sandbox.file-events"), Immutable]
public sealed record FileEventPage([property: Id(0)] IReadOnlyList<FileEvent> Events, [property: Id(1)] long Dropped, [property: Id(2)] bool Closed);
