using ArchUnitNET.Loader;
using Sandbox.Abstractions;
using Sandbox.Isolation.Backends;
using Xunit;
using static ArchUnitNET.Fluent.ArchRuleDefinition;

namespace Sandbox.Architecture.Tests;

/// <summary>Rules on the compiled types, where project references alone do not show the whole truth (packages come transitively).</summary>
public sealed class LayeringTests
{
    private static readonly ArchUnitNET.Domain.Architecture Model = new ArchLoader()
        .LoadAssemblies(typeof(ISessionGrain).Assembly, typeof(IIsolationBackend).Assembly)
        .Build();

    [Fact]
    public void Isolation_knows_nothing_of_actors_or_of_HTTP()
    {
        var faults = DependenciesOf(typeof(IIsolationBackend).Assembly.GetName().Name!, "Orleans", "Microsoft.AspNetCore");

        Assert.Empty(faults);
    }

    [Fact]
    public void Contracts_hold_interfaces_records_and_errors_but_no_behaviour()
    {
        var grains = Classes().That().ResideInNamespace(typeof(ISessionGrain).Namespace!).GetObjects(Model)
            .Where(c => c.Name.EndsWith("Grain", StringComparison.Ordinal) && !c.Name.StartsWith('I'))
            .Select(c => c.FullName);

        Assert.Empty(grains);
    }

    private static IEnumerable<string> DependenciesOf(string assembly, params string[] namespaces) =>
        Model.Types.Where(t => t.Assembly.Name.StartsWith(assembly, StringComparison.Ordinal))
            .SelectMany(t => t.Dependencies.Select(d => (Type: t.FullName, Target: d.Target.FullName)))
            .Where(d => namespaces.Any(n => d.Target.StartsWith(n, StringComparison.Ordinal)))
            .Select(d => $"{d.Type} uses {d.Target}");
}
