namespace Sandbox.Isolation.Devices.Cdi;

/// <summary>The CDI devices of a host, by their full names (<c>nvidia.com/gpu=0</c>). Read from JSON files; those in YAML, which the interface allows too, are named in <see cref="Problems"/>.</summary>
public sealed class CdiRegistry
{
    private readonly Dictionary<string, (CdiSpec Spec, CdiDevice Device)> _devices = new(StringComparer.Ordinal);

    private CdiRegistry()
    {
    }

    /// <summary>Where the files are, the more important directory last: what is generated while the host runs goes before what an administrator has written.</summary>
    public static IReadOnlyList<string> DefaultDirectories { get; } = ["/etc/cdi", "/var/run/cdi"];

    /// <summary>Full names of all devices, in order.</summary>
    public IReadOnlyList<string> Names => [.. _devices.Keys.Order(StringComparer.Ordinal)];

    /// <summary>Files that could not be used, and why, for the operator.</summary>
    public IReadOnlyList<string> Problems { get; private init; } = [];

    /// <summary>Reads the directories. A file that cannot be used takes no other with it; a device that two files of one directory describe is described by none.</summary>
    public static CdiRegistry Read(IEnumerable<string>? directories = null)
    {
        List<string> problems = [];
        var registry = new CdiRegistry { Problems = problems };
        foreach (var directory in (directories ?? DefaultDirectories).Where(Directory.Exists))
        {
            var here = new Dictionary<string, string>(StringComparer.Ordinal);
            var conflicts = new HashSet<string>(StringComparer.Ordinal);
            foreach (var path in Directory.GetFiles(directory).Order(StringComparer.Ordinal))
            {
                if (Path.GetExtension(path) is ".yaml" or ".yml")
                {
                    problems.Add($"{path} is YAML; only JSON is read: convert it, for example with nvidia-ctk cdi generate --format=json");
                }
                else if (Path.GetExtension(path) == ".json")
                {
                    registry.Add(path, here, conflicts, problems);
                }
            }

            foreach (var name in conflicts)
            {
                registry._devices.Remove(name);
            }
        }

        return registry;
    }

    /// <summary>What a device and its file need, the file's first.</summary>
    /// <exception cref="DeviceException">There is no such device.</exception>
    public (CdiSpec Spec, CdiDevice Device) Find(string name) => _devices.TryGetValue(name, out var found) ? found
        : throw new DeviceException($"This host has no CDI device '{name}'; it has: {(_devices.Count > 0 ? string.Join(", ", Names) : "none")}.");

    private void Add(string path, Dictionary<string, string> here, HashSet<string> conflicts, List<string> problems)
    {
        CdiSpec spec;
        try
        {
            spec = CdiSpec.Read(path);
        }
        catch (DeviceException e)
        {
            problems.Add(e.Message);
            return;
        }

        foreach (var device in spec.Devices)
        {
            var name = $"{spec.Kind}={device.Name}";
            if (!here.TryAdd(name, path))
            {
                conflicts.Add(name);
                problems.Add($"{name} is described by {here[name]} and by {path}; it is used from neither");
            }

            _devices[name] = (spec, device);
        }
    }
}
