namespace Sandbox.Snapshots.Artifacts;

/// <summary>What is kept of an artifact beside its bytes.</summary>
/// <param name="Name">A name for a download: the last part of its path, at most 128 printable ASCII characters, no separators and no quotes.</param>
/// <param name="MimeType">What its first bytes say it is.</param>
/// <param name="Size">Bytes.</param>
/// <param name="Sha256">Of its bytes, in lower-case hexadecimal.</param>
public sealed record ArtifactInfo(string Name, string MimeType, long Size, string Sha256)
{
    /// <summary>A harmless name from a guest's path.</summary>
    public static string NameOf(string path)
    {
        ArgumentNullException.ThrowIfNull(path);
        var last = path[(path.LastIndexOf('/') + 1)..];
        var name = new string([.. last.Select(c => char.IsAsciiLetterOrDigit(c) || c is '.' or '-' or '_' or ' ' or '+' or '@' or '(' or ')' ? c : '_').Take(128)]).Trim('.', ' ');
        return name.Length == 0 ? "artifact" : name;
    }
}
