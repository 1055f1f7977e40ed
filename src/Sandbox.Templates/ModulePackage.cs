using System.Text.RegularExpressions;

namespace Sandbox.Templates;

/// <summary>A WebAssembly module in a package of npm, pinned by version and content.</summary>
public sealed partial record ModulePackage
{
    /// <summary>Name in the image, <c>[a-z][a-z0-9-]{0,39}</c>.</summary>
    public required string Name { get; init; }

    /// <summary>Name of the package, with its scope.</summary>
    public required string Package { get; init; }

    /// <summary>Exact version.</summary>
    public required string Version { get; init; }

    /// <summary>Hash of its tarball, as npm writes it: <c>sha512-</c> and base64.</summary>
    public required string Integrity { get; init; }

    /// <summary>The module's path in the package.</summary>
    public required string File { get; init; }

    /// <summary>Path of the licence in the package; kept beside the module.</summary>
    public required string License { get; init; }

    /// <summary>What is wrong with it, or <see langword="null"/>.</summary>
    internal string? Problem =>
        !NamePattern().IsMatch(Name) ? $"'{Name}' is no name of a module: [a-z][a-z0-9-]{{0,39}}."
        : !PackagePattern().IsMatch(Package) ? $"'{Package}' is no name of an npm package."
        : !VersionPattern().IsMatch(Version) ? $"'{Version}' is no exact version of an npm package."
        : !IntegrityPattern().IsMatch(Integrity) ? $"the integrity of {Package} is not sha512- and 88 characters of base64."
        : null;

    /// <summary>Path of the tarball below a registry's address.</summary>
    internal string TarballPath => $"{Package}/-/{Package[(Package.IndexOf('/') + 1)..]}-{Version}.tgz";

    [GeneratedRegex(@"\A[a-z][a-z0-9-]{0,39}\z")]
    private static partial Regex NamePattern();

    [GeneratedRegex(@"\A(@[a-z0-9][a-z0-9._-]{0,99}/)?[a-z0-9][a-z0-9._-]{0,99}\z")]
    private static partial Regex PackagePattern();

    [GeneratedRegex(@"\A[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.-]{1,40})?\z")]
    private static partial Regex VersionPattern();

    [GeneratedRegex(@"\Asha512-[0-9A-Za-z+/]{86}==\z")]
    private static partial Regex IntegrityPattern();
}
