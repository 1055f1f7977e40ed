using Sandbox.Isolation.Devices;

namespace Sandbox.Isolation.TestSupport;

/// <summary>A sysfs in a folder, with as much of a kernel behind it as binding and resetting need.</summary>
public sealed class FakeSysfs : SysfsTree, IDisposable
{
    private readonly List<string> _written = [];

    public FakeSysfs()
        : base(Directory.CreateTempSubdirectory("sysfs-").FullName)
    {
        Directory.CreateDirectory(PathOf("bus/pci/devices"));
        Touch("bus/pci/drivers_probe", "");
    }

    /// <summary>What was written, as "path: text".</summary>
    public IReadOnlyList<string> Written
    {
        get
        {
            lock (_written)
            {
                return [.. _written];
            }
        }
    }

    /// <summary>Called before a write takes effect; may throw.</summary>
    public Action<string>? OnWrite { get; set; }

    /// <summary>Devices whose reset makes them fall off the bus.</summary>
    public HashSet<string> Fragile { get; } = [];

    public void AddDriver(string name) => Touch($"bus/pci/drivers/{name}/bind", "");

    public void Add(string address, uint vendor, uint device, uint type, int? group = null, string? driver = null, bool resets = true)
    {
        var folder = $"bus/pci/devices/{address}";
        Touch($"{folder}/vendor", $"0x{vendor:x4}\n");
        Touch($"{folder}/device", $"0x{device:x4}\n");
        Touch($"{folder}/class", $"0x{type:x6}\n");
        Touch($"{folder}/numa_node", "-1\n");
        Touch($"{folder}/driver_override", "(null)\n");
        if (resets)
        {
            Touch($"{folder}/reset", "");
            Touch($"{folder}/reset_method", "flr bus\n");
        }

        if (group is { } number)
        {
            Directory.CreateDirectory(PathOf($"kernel/iommu_groups/{number}/devices"));
            Link($"kernel/iommu_groups/{number}/devices/{address}", $"../../../../{folder}");
            Link($"{folder}/iommu_group", $"../../../../kernel/iommu_groups/{number}");
        }

        if (driver is not null)
        {
            AddDriver(driver);
            SetDriver(address, driver);
        }
    }

    public void AddVirtualFunction(string parent, string address, int index)
    {
        Link($"bus/pci/devices/{parent}/virtfn{index}", $"../{address}");
        Link($"bus/pci/devices/{address}/physfn", $"../{parent}");
    }

    public void Touch(string path, string text)
    {
        Directory.CreateDirectory(Path.GetDirectoryName(PathOf(path))!);
        File.WriteAllText(PathOf(path), text);
    }

    public void Link(string path, string target)
    {
        Directory.CreateDirectory(Path.GetDirectoryName(PathOf(path))!);
        File.CreateSymbolicLink(PathOf(path), target);
    }

    public override void Write(string text, params string[] parts)
    {
        var path = string.Join('/', parts);
        OnWrite?.Invoke($"{path}: {text}");
        lock (_written)
        {
            _written.Add($"{path}: {text.Trim()}");
            if (!path.EndsWith("driver/unbind", StringComparison.Ordinal) && !File.Exists(PathOf(path)))
            {
                throw new FileNotFoundException(path);
            }

            if (path.EndsWith("driver/unbind", StringComparison.Ordinal))
            {
                Directory.Delete(PathOf(parts[0], text, "driver"));
            }
            else if (path.EndsWith("driver_override", StringComparison.Ordinal))
            {
                File.WriteAllText(PathOf(path), text);
            }
            else if (path.EndsWith("drivers_probe", StringComparison.Ordinal))
            {
                var wanted = ReadLine("bus/pci/devices", text, "driver_override");
                SetDriver(text, wanted is { Length: > 0 } and not "(null)" ? wanted : Natural[text]);
            }
            else if (path.EndsWith("/reset", StringComparison.Ordinal) && Fragile.Contains(parts[1]))
            {
                Touch($"bus/pci/devices/{parts[1]}/vendor", "0xffff\n");
            }
        }
    }

    public void Dispose() => Directory.Delete(Root, recursive: true);

    /// <summary>Drivers that take a device when nothing says otherwise.</summary>
    private Dictionary<string, string> Natural { get; } = [];

    private void SetDriver(string address, string driver)
    {
        Natural.TryAdd(address, driver);
        Link($"bus/pci/devices/{address}/driver", $"../../drivers/{driver}");
    }
}
