namespace Sandbox.Isolation.Firecracker.Tests.Double;

/// <summary>Arguments of the form "--name value". Unknown ones, and those that come twice and may not, are errors, as in the real programs.</summary>
internal sealed class Arguments
{
    private readonly List<(string Name, string Value)> _all = [];

    public static Arguments Parse(string[] args, string[] once, string[] many)
    {
        var parsed = new Arguments();
        for (var i = 0; i < args.Length; i += 2)
        {
            var name = args[i];
            if (!once.Contains(name, StringComparer.Ordinal) && !many.Contains(name, StringComparer.Ordinal))
            {
                throw new DoubleException($"Arguments parsing error: Found argument '{name}' which wasn't expected, or isn't valid in this context.");
            }

            if (i + 1 == args.Length)
            {
                throw new DoubleException($"Arguments parsing error: The argument '{name}' requires a value, but none was supplied.");
            }

            if (once.Contains(name, StringComparer.Ordinal) && parsed._all.Any(a => a.Name == name))
            {
                throw new DoubleException($"Arguments parsing error: The argument '{name}' was provided more than once.");
            }

            parsed._all.Add((name, args[i + 1]));
        }

        return parsed;
    }

    public string One(string name) => _all.FirstOrDefault(a => a.Name == name).Value ?? throw new DoubleException($"Arguments parsing error: Argument '{name}' required, but not found.");

    public string? Maybe(string name) => _all.FirstOrDefault(a => a.Name == name).Value;

    public IReadOnlyList<string> Many(string name) => [.. _all.Where(a => a.Name == name).Select(a => a.Value)];
}
