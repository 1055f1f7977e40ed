using System.Text.RegularExpressions;

namespace Sandbox.Templates;

/// <summary>A WebAssembly module in a package of npm.</summary>
public sealed partial record ModulePackage : PinnedPackage
{
    /// <summary>Name in the image, <c>[a-z][a-z0-9-]{0,39}</c>.</summary>
    public required string Name { get; init; }

    /// <summary>The module's path in the package.</summary>
    public required string File { get; init; }

    /// <summary>Path of the licence in the package; kept beside the module.</summary>
    public required string License { get; init; }

    /// <inheritdoc/>
    internal override string? Problem => NamePattern().IsMatch(Name) ? base.Problem : $"'{Name}' is no name of a module: [a-z][a-z0-9-]{{0,39}}.";

    [GeneratedRegex(@"\A[a-z][a-z0-9-]{0,39}\z")]
    private static partial Regex NamePattern();
}
