using System.Text.Json;
using System.Text.Json.Serialization;
using Sandbox.Abstractions;
using Sandbox.Egress.Policy;
using Sandbox.TestSupport;
using Xunit;

namespace Sandbox.Egress.Tests.Policy;

/// <summary>What docs/egress.md says is so.</summary>
public sealed class DocumentationTests
{
    private static readonly string Text = File.ReadAllText(Path.Combine(Repository.Root, "docs", "egress.md"));

    private static readonly JsonSerializerOptions Json = new(JsonSerializerDefaults.Web) { Converters = { new JsonStringEnumConverter(JsonNamingPolicy.CamelCase, allowIntegerValues: false) }, UnmappedMemberHandling = JsonUnmappedMemberHandling.Disallow };

    [Fact]
    public void Every_preset_is_in_the_table() => Assert.All(Presets.All, p => Assert.Contains($"| `{p.Name}` | {p.Description} |", Text, StringComparison.Ordinal));

    [Fact]
    public void The_example_is_a_valid_policy()
    {
        var example = Text.Split("```json")[1].Split("```")[0];

        PolicyValidation.Validate(JsonSerializer.Deserialize<EgressPolicy>(example, Json)!);
    }
}
