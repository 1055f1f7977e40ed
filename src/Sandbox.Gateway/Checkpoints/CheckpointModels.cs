using Sandbox.Abstractions;

namespace Sandbox.Gateway.Checkpoints;

/// <summary>Body of a checkpoint call.</summary>
internal sealed record CheckpointBody
{
    private const int MaxNameLength = 100;

    public string? Name { get; init; }

    /// <summary>The name, if it may be one.</summary>
    public string? CheckedName() => Name is null or { Length: >= 1 and <= MaxNameLength } && Name?.Any(char.IsControl) is not true
        ? Name
        : throw SandboxException.Invalid("name", $"A checkpoint's name has 1 to {MaxNameLength} printable characters.");
}

/// <summary>Body of a fork call.</summary>
internal sealed record ForkBody
{
    private const int MaxCount = 100;

    public int? Count { get; init; }

    /// <summary>How many; one if nothing is said.</summary>
    public int CheckedCount() => (Count ?? 1) is >= 1 and <= MaxCount and var count ? count : throw SandboxException.Invalid("count", $"'count' must be a whole number from 1 to {MaxCount}.");
}
