using System.Xml.Linq;
using Sandbox.TestSupport;
using Xunit;

namespace Sandbox.Architecture.Tests;

/// <summary>
/// The arrows between projects (docs/architecture.md). Read from the project files themselves, so that a forbidden reference fails
/// before anybody has used it.
/// </summary>
public sealed class DependencyTests
{
    /// <summary>What each project may refer to. A project that is missing here fails the first test: decide where it stands before adding it.</summary>
    private static readonly Dictionary<string, string[]> Allowed = new(StringComparer.Ordinal)
    {
        ["Sandbox.Guest.Protocol"] = [],
        ["Sandbox.Guest.Agent"] = ["Sandbox.Guest.Protocol"],
        ["Sandbox.Abstractions"] = [],
        ["Sandbox.Output"] = [],
        ["Sandbox.Isolation"] = ["Sandbox.Guest.Protocol"],
        ["Sandbox.Isolation.Null"] = ["Sandbox.Isolation", "Sandbox.Guest.Protocol"],
        ["Sandbox.Isolation.Qemu"] = ["Sandbox.Isolation", "Sandbox.Guest.Protocol", "Sandbox.Qemu.Mapper"],
        ["Sandbox.Qemu.Mapper"] = [],
        ["Sandbox.Isolation.Oci"] = ["Sandbox.Isolation", "Sandbox.Guest.Protocol"],
        ["Sandbox.Isolation.Wasm"] = ["Sandbox.Isolation", "Sandbox.Guest.Protocol"],
        ["Sandbox.Wasm.Worker"] = ["Sandbox.Guest.Protocol"],
        ["Sandbox.Isolation.Firecracker"] = ["Sandbox.Isolation", "Sandbox.Guest.Protocol"],
        ["Sandbox.Snapshots"] = ["Sandbox.Isolation"],
        ["Sandbox.Egress"] = ["Sandbox.Abstractions", "Sandbox.Isolation"],
        ["Sandbox.Templates"] = ["Sandbox.Isolation"],
        ["Sandbox.Storage"] = [],
        ["Sandbox.Client"] = ["Sandbox.Abstractions"],
        ["Sandbox.Grains"] = ["Sandbox.Abstractions", "Sandbox.Egress", "Sandbox.Isolation", "Sandbox.Guest.Protocol", "Sandbox.Output", "Sandbox.Snapshots"],
        ["Sandbox.Gateway"] = ["Sandbox.Abstractions", "Sandbox.Client"],
        ["Sandbox.E2b"] = ["Sandbox.Abstractions", "Sandbox.Gateway"],
        ["Sandbox.Server"] =
        [
            "Sandbox.Abstractions", "Sandbox.Client", "Sandbox.E2b", "Sandbox.Egress", "Sandbox.Gateway", "Sandbox.Grains", "Sandbox.Isolation", "Sandbox.Isolation.Firecracker", "Sandbox.Isolation.Null",
            "Sandbox.Isolation.Oci", "Sandbox.Isolation.Qemu", "Sandbox.Isolation.Wasm", "Sandbox.Snapshots", "Sandbox.Storage", "Sandbox.Templates",
        ],
        ["Sandbox.Bench"] =
        [
            "Sandbox.Abstractions", "Sandbox.Client", "Sandbox.Egress", "Sandbox.Grains", "Sandbox.Guest.Protocol", "Sandbox.Isolation", "Sandbox.Isolation.Oci", "Sandbox.Isolation.Qemu", "Sandbox.Isolation.Wasm", "Sandbox.Server", "Sandbox.Snapshots", "Sandbox.Storage",
            "Sandbox.TestSupport", "Sandbox.Wasm.Worker",
        ],
        ["Sandbox.Cli"] = ["Sandbox.Abstractions", "Sandbox.Isolation", "Sandbox.Isolation.Firecracker", "Sandbox.Isolation.Oci", "Sandbox.Isolation.Qemu", "Sandbox.Isolation.Wasm", "Sandbox.Server", "Sandbox.Storage", "Sandbox.Templates", "Sandbox.Wasm.Worker"],
    };

    /// <summary>Package families that only some projects may know.</summary>
    private static readonly Dictionary<string, string[]> PackageOwners = new(StringComparer.Ordinal)
    {
        ["Microsoft.Orleans."] = ["Sandbox.Abstractions", "Sandbox.Client", "Sandbox.Grains", "Sandbox.Storage", "Sandbox.Gateway", "Sandbox.Server"],
        ["Microsoft.AspNetCore."] = ["Sandbox.E2b", "Sandbox.Gateway", "Sandbox.Server"],
        ["AWSSDK."] = ["Sandbox.Snapshots"],
        ["Npgsql"] = ["Sandbox.Storage", "Sandbox.Bench"],
        ["StackExchange.Redis"] = ["Sandbox.Storage"],
        ["Microsoft.Data.Sqlite"] = ["Sandbox.Storage"],
        ["Wasmtime"] = ["Sandbox.Wasm.Worker"],
        ["DnsClient"] = ["Sandbox.Egress"],
        ["Spectre.Console"] = ["Sandbox.Cli", "Sandbox.Bench"],
    };

    public static TheoryData<string> Projects => [.. ProjectFiles().Select(f => Path.GetFileNameWithoutExtension(f))];

    [Theory]
    [MemberData(nameof(Projects))]
    public void A_project_refers_only_to_what_stands_below_it(string project)
    {
        Assert.True(Allowed.TryGetValue(project, out var allowed), $"{project} has no place in the layering; add it to {nameof(Allowed)} and docs/architecture.md.");

        var references = Load(project).Descendants("ProjectReference").Select(e => Path.GetFileNameWithoutExtension(e.Attribute("Include")!.Value.Replace('\\', '/')));

        Assert.Empty(references.Except(allowed!, StringComparer.Ordinal));
    }

    [Theory]
    [MemberData(nameof(Projects))]
    public void A_project_uses_only_packages_it_may_know(string project)
    {
        var packages = Load(project).Descendants("PackageReference").Select(e => e.Attribute("Include")!.Value);

        var forbidden = packages.Where(p => PackageOwners.Any(o => p.StartsWith(o.Key, StringComparison.Ordinal) && !o.Value.Contains(project, StringComparer.Ordinal)));

        Assert.Empty(forbidden);
    }

    [Fact]
    public void No_project_names_a_version_of_a_package()
    {
        var versions = ProjectFiles().SelectMany(f => XDocument.Load(f).Descendants("PackageReference").Where(e => e.Attribute("Version") is not null).Select(_ => f));

        Assert.Empty(versions);
    }

    private static XDocument Load(string project) => XDocument.Load(ProjectFiles().Single(f => Path.GetFileNameWithoutExtension(f) == project));

    private static string[] ProjectFiles() => Directory.GetFiles(Path.Combine(Repository.Root, "src"), "*.csproj", SearchOption.AllDirectories);
}
