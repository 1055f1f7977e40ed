using System.Text.RegularExpressions;

namespace Sandbox.Templates;

/// <summary>A package of npm, pinned by version and content.</summary>
public partial record PinnedPackage
{
    /// <summary>Name of the package, with its scope.</summary>
    public required string Package { get; init; }

    /// <summary>Exact version.</summary>
    public required string Version { get; init; }

    /// <summary>Hash of its tarball, as npm writes it: <c>sha512-</c> and base64.</summary>
    public required string Integrity { get; init; }

    /// <summary>What is wrong with it, or <see langword="null"/>.</summary>
    internal virtual string? Problem =>
        !PackagePattern().IsMatch(Package) ? $"'{Package}' is no name of an npm package."
        : !VersionPattern().IsMatch(Version) ? $"'{Version}' is no exact version of an npm package."
        : !IntegrityPattern().IsMatch(Integrity) ? $"the integrity of {Package} is not sha512- and 88 characters of base64."
        : null;

    /// <summary>Path of the tarball below a registry's address.</summary>
    internal string TarballPath => $"{Package}/-/{Package[(Package.IndexOf('/') + 1)..]}-{Version}.tgz";

    [GeneratedRegex(@"\A(@[a-z0-9][a-z0-9._-]{0,99}/)?[a-z0-9][a-z0-9._-]{0,99}\z")]
    private static partial Regex PackagePattern();

    [GeneratedRegex(@"\A[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.-]{1,40})?\z")]
    private static partial Regex VersionPattern();

    [GeneratedRegex(@"\Asha512-[0-9A-Za-z+/]{86}==\z")]
    private static partial Regex IntegrityPattern();
}
