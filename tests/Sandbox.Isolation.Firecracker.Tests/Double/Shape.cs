using System.Text.Json;

namespace Sandbox.Isolation.Firecracker.Tests.Double;

/// <summary>What a value of a request must look like. Stricter than JSON: nothing unknown, nothing twice, no null.</summary>
internal abstract class Shape
{
    /// <summary>What is wrong with a value, or <see langword="null"/>.</summary>
    public abstract string? Check(JsonElement value, string name);

    public static Shape Text(int max = 4096) => new Of(v => v.ValueKind == JsonValueKind.String && v.GetString() is { Length: > 0 } s && s.Length <= max && !s.Contains('\0', StringComparison.Ordinal), "a text that is not empty");

    public static Shape Choice(params string[] values) => new Of(v => v.ValueKind == JsonValueKind.String && values.Contains(v.GetString(), StringComparer.Ordinal), $"one of {string.Join(", ", values)}");

    public static Shape Whole(long min, long max = long.MaxValue) => new Of(v => v.ValueKind == JsonValueKind.Number && v.TryGetInt64(out var n) && n >= min && n <= max, $"a whole number of at least {min}");

    public static Shape Flag() => new Of(v => v.ValueKind is JsonValueKind.True or JsonValueKind.False, "true or false");

    public static Shape List(Shape item) => new Items(item);

    public static Members Object(params (string Name, Shape Shape)[] members) => new(members);

    private sealed class Of(Func<JsonElement, bool> fits, string what) : Shape
    {
        public override string? Check(JsonElement value, string name) => fits(value) ? null : $"`{name}` must be {what}";
    }

    private sealed class Items(Shape item) : Shape
    {
        public override string? Check(JsonElement value, string name) => value.ValueKind == JsonValueKind.Array
            ? value.EnumerateArray().Select((v, i) => item.Check(v, $"{name}[{i}]")).FirstOrDefault(e => e is not null)
            : $"`{name}` must be a list";
    }
}

/// <summary>An object. A name that ends with a question mark need not be there.</summary>
internal sealed class Members((string Name, Shape Shape)[] members) : Shape
{
    public Func<JsonElement, string?>? Also { get; init; }

    public override string? Check(JsonElement value, string name)
    {
        if (value.ValueKind != JsonValueKind.Object)
        {
            return $"`{name}` must be an object";
        }

        var seen = new HashSet<string>(StringComparer.Ordinal);
        foreach (var member in value.EnumerateObject())
        {
            var known = members.FirstOrDefault(m => m.Name.TrimEnd('?') == member.Name);
            if (known.Shape is null)
            {
                return $"unknown field `{member.Name}`";
            }

            if (!seen.Add(member.Name))
            {
                return $"duplicate field `{member.Name}`";
            }

            if (known.Shape.Check(member.Value, member.Name) is { } wrong)
            {
                return wrong;
            }
        }

        var missing = members.FirstOrDefault(m => !m.Name.EndsWith('?') && !seen.Contains(m.Name));
        return missing.Shape is null ? Also?.Invoke(value) : $"missing field `{missing.Name}`";
    }
}
