using System.Text;

namespace Sandbox.Templates;

/// <summary>Finds kernel modules and what they depend on, in the order in which they must be loaded.</summary>
internal sealed class KernelModules
{
    private readonly Dictionary<string, string> _files = new(StringComparer.Ordinal);
    private readonly HashSet<string> _builtIn = new(StringComparer.Ordinal);

    /// <param name="modulesFolder"><c>/lib/modules/RELEASE</c> of an unpacked kernel package.</param>
    public KernelModules(string modulesFolder)
    {
        foreach (var file in Directory.EnumerateFiles(modulesFolder, "*.ko", SearchOption.AllDirectories))
        {
            _files[Normalise(Path.GetFileNameWithoutExtension(file))] = file;
        }

        var builtIn = Path.Combine(modulesFolder, "modules.builtin");
        foreach (var line in File.Exists(builtIn) ? File.ReadLines(builtIn) : [])
        {
            _builtIn.Add(Normalise(Path.GetFileNameWithoutExtension(line)));
        }
    }

    /// <summary>Files of the named modules and their dependencies, each after what it needs.</summary>
    /// <exception cref="TemplateException">The kernel has no such module.</exception>
    public IReadOnlyList<string> InLoadOrder(IEnumerable<string> names)
    {
        var order = new List<string>();
        var seen = new HashSet<string>(StringComparer.Ordinal);
        foreach (var name in names)
        {
            Visit(Normalise(name), order, seen);
        }

        return order;
    }

    private void Visit(string name, List<string> order, HashSet<string> seen)
    {
        if (!seen.Add(name))
        {
            return;
        }

        if (!_files.TryGetValue(name, out var file))
        {
            if (_builtIn.Contains(name))
            {
                return;
            }

            throw new TemplateException($"The kernel has no module '{name}'.");
        }

        foreach (var dependency in DependenciesOf(file))
        {
            Visit(Normalise(dependency), order, seen);
        }

        order.Add(file);
    }

    /// <summary>A module says in its .modinfo section what it depends on: <c>depends=a,b</c> between NULs. Soft ones stand in <c>softdep=pre: a</c>.</summary>
    private IEnumerable<string> DependenciesOf(string file)
    {
        var bytes = File.ReadAllBytes(file);
        foreach (var name in Value(bytes, "\0depends=").Split(',', StringSplitOptions.RemoveEmptyEntries))
        {
            yield return name;
        }

        var soft = Value(bytes, "\0softdep=");
        foreach (var name in soft.StartsWith("pre:", StringComparison.Ordinal) ? soft[4..].Split(' ', StringSplitOptions.RemoveEmptyEntries) : [])
        {
            // "post:" ends the list; a soft dependency that does not exist is no fault.
            if (name.EndsWith(':'))
            {
                yield break;
            }

            if (_files.ContainsKey(Normalise(name)))
            {
                yield return name;
            }
        }
    }

    private static string Value(byte[] bytes, string key)
    {
        var at = bytes.AsSpan().IndexOf(Encoding.ASCII.GetBytes(key));
        if (at < 0)
        {
            return "";
        }

        var rest = bytes.AsSpan(at + key.Length);
        return Encoding.ASCII.GetString(rest[..Math.Max(rest.IndexOf((byte)0), 0)]);
    }

    private static string Normalise(string name) => name.Replace('-', '_');
}
