using System.Text.RegularExpressions;

namespace Sandbox.Snapshots.Blobs;

/// <summary>What may be the name of a blob: nothing that climbs out of a directory or means something to an object store.</summary>
internal static partial class BlobName
{
    public static string Check(string name) =>
        Form().IsMatch(name) ? name : throw new ArgumentException($"'{name}' cannot be the name of a blob.", nameof(name));

    [GeneratedRegex(@"\A[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}(/[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}){0,7}\z")]
    private static partial Regex Form();
}
