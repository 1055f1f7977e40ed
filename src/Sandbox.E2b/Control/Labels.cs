using Sandbox.Abstractions;

namespace Sandbox.E2b.Control;

/// <summary>What E2B knows of a sandbox and a session does not: kept among its metadata under names that callers may not use, and not shown to them.</summary>
internal static class Labels
{
    /// <summary>The template as the caller named it.</summary>
    public const string Template = Prefix + "template";

    /// <summary>Its ports may be reached without a token.</summary>
    public const string Public = Prefix + "public";

    /// <summary>The name of a snapshot.</summary>
    public const string SnapshotName = Prefix + "snapshot-name";

    private const string Prefix = "e2b:";

    /// <summary>A caller's metadata.</summary>
    /// <exception cref="SandboxException">It uses a name of ours.</exception>
    public static Dictionary<string, string> Checked(Dictionary<string, string>? metadata)
    {
        foreach (var (name, value) in metadata ?? [])
        {
            if (name.StartsWith(Prefix, StringComparison.Ordinal) || value is null)
            {
                throw SandboxException.Invalid("metadata", $"Names of metadata do not begin with '{Prefix}', and values are texts.");
            }
        }

        return new Dictionary<string, string>(metadata ?? [], StringComparer.Ordinal);
    }

    /// <summary>What the caller gave.</summary>
    public static Dictionary<string, string> Shown(SessionInfo info) =>
        info.Metadata.Where(p => !p.Key.StartsWith(Prefix, StringComparison.Ordinal)).ToDictionary(StringComparer.Ordinal);

    /// <summary>The value of one of ours.</summary>
    public static string? Get(SessionInfo info, string label) => info.Metadata.GetValueOrDefault(label);
}
