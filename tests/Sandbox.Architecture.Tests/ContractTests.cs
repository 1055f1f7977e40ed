using System.Reflection;
using Sandbox.Abstractions;
using Xunit;

namespace Sandbox.Architecture.Tests;

/// <summary>Orleans contracts must survive renames and rolling upgrades: everything on the wire has an alias, every member an id.</summary>
public sealed class ContractTests
{
    // The assembly also holds what Orleans generates; that lives in namespaces of its own.
    private static readonly Type[] Types = [.. typeof(ISessionGrain).Assembly.GetTypes().Where(t => t.Namespace == typeof(ISessionGrain).Namespace)];

    [Fact]
    public void Every_serialized_type_has_an_alias_and_every_member_an_id()
    {
        var serialized = Types.Where(t => t.GetCustomAttribute<GenerateSerializerAttribute>() is not null).ToArray();
        Assert.NotEmpty(serialized);

        var faults = serialized.SelectMany(FaultsOf).ToArray();

        Assert.True(faults.Length == 0, string.Join(Environment.NewLine, faults));
    }

    [Fact]
    public void Every_grain_interface_and_method_has_an_alias()
    {
        var faults = new List<string>();
        foreach (var type in GrainInterfaces())
        {
            if (type.GetCustomAttribute<AliasAttribute>() is null)
            {
                faults.Add($"{type.Name} has no [Alias].");
            }

            faults.AddRange(type.GetMethods(BindingFlags.Public | BindingFlags.Instance | BindingFlags.DeclaredOnly)
                .Where(m => m.GetCustomAttribute<AliasAttribute>() is null)
                .Select(m => $"{type.Name}.{m.Name} has no [Alias]."));
        }

        Assert.True(faults.Count == 0, string.Join(Environment.NewLine, faults));
    }

    [Fact]
    public void Aliases_are_unique()
    {
        var aliases = Types
            .Select(t => t.GetCustomAttribute<AliasAttribute>()?.Alias)
            .OfType<string>()
            .ToArray();

        Assert.Equal(aliases.Length, aliases.Distinct(StringComparer.Ordinal).Count());
    }

    private static IEnumerable<Type> GrainInterfaces() =>
        Types.Where(t => t.IsInterface && t.IsPublic && typeof(IGrain).IsAssignableFrom(t));

    private static IEnumerable<string> FaultsOf(Type type)
    {
        if (type.GetCustomAttribute<AliasAttribute>() is null)
        {
            yield return $"{type.Name} has no [Alias].";
        }

        if (type.IsEnum || typeof(Exception).IsAssignableFrom(type))
        {
            yield break;
        }

        var ids = new HashSet<uint>();
        foreach (var property in type.GetProperties(BindingFlags.Public | BindingFlags.Instance).Where(p => p.Name != "EqualityContract"))
        {
            if (property.GetCustomAttribute<IdAttribute>() is not { } id)
            {
                yield return $"{type.Name}.{property.Name} has no [Id].";
            }
            else if (!ids.Add(id.Id))
            {
                yield return $"{type.Name}.{property.Name} repeats [Id({id.Id})].";
            }
        }
    }
}
