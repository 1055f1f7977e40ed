using System.Text.Json;
using System.Text.Json.Serialization;
using System.Text.RegularExpressions;

namespace Sandbox.Isolation.Devices.Cdi;

/// <summary>
/// One file of the Container Device Interface: devices of one kind, and what a container's configuration needs for each. Members that are not known make a file invalid, as the interface demands: a runtime must not leave out half of what a device
/// needs.
/// </summary>
public sealed partial record CdiSpec
{
    /// <summary>Newest version that is understood.</summary>
    public static Version Newest { get; } = new(1, 1, 0);

    /// <summary>Largest file that is read, in bytes. NVIDIA's for eight GPUs has some ten KiB.</summary>
    private const int MaxFile = 4 << 20;

    /// <summary>Version of the interface.</summary>
    public required string CdiVersion { get; init; }

    /// <summary>Vendor and class, for example <c>nvidia.com/gpu</c>.</summary>
    public required string Kind { get; init; }

    /// <summary>The devices.</summary>
    public required IReadOnlyList<CdiDevice> Devices { get; init; }

    /// <summary>What any device of this file needs.</summary>
    public CdiEdits? ContainerEdits { get; init; }

    /// <summary>Notes of whoever wrote the file.</summary>
    public IReadOnlyDictionary<string, string>? Annotations { get; init; }

    /// <summary>Reads a file.</summary>
    /// <exception cref="DeviceException">It is none of this kind; the message says what is wrong.</exception>
    public static CdiSpec Read(string path)
    {
        try
        {
            if (new FileInfo(path).Length > MaxFile)
            {
                throw new DeviceException($"The CDI file {path} has more than {MaxFile} bytes.");
            }

            return Parse(File.ReadAllBytes(path), path);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new DeviceException($"The CDI file {path} cannot be read: {e.Message}", e);
        }
    }

    /// <summary>Reads the content of a file.</summary>
    /// <exception cref="DeviceException">It is none of this kind; the message says what is wrong.</exception>
    public static CdiSpec Parse(ReadOnlySpan<byte> json, string path)
    {
        CdiSpec? spec;
        try
        {
            spec = JsonSerializer.Deserialize(json, CdiJson.Default.CdiSpec);
        }
        catch (JsonException e)
        {
            throw new DeviceException($"The CDI file {path} is not as the interface has it: {e.Message}", e);
        }

        var problem = spec is null ? "it is empty"
            : !Version.TryParse(spec.CdiVersion, out var version) || version > Newest ? $"its version {spec.CdiVersion} is not known (up to {Newest} is)"
            : !KindForm().IsMatch(spec.Kind) ? $"'{spec.Kind}' is no kind of device (vendor.com/class)"
            : spec.Devices.Count == 0 ? "it has no devices"
            : spec.Devices.FirstOrDefault(d => !NameForm().IsMatch(d.Name)) is { } wrong ? $"'{wrong.Name}' is no name of a device"
            : spec.Devices.GroupBy(d => d.Name, StringComparer.Ordinal).FirstOrDefault(g => g.Count() > 1) is { } twice ? $"device '{twice.Key}' is there twice"
            : null;
        return problem is null ? spec! : throw new DeviceException($"The CDI file {path} cannot be used: {problem}.");
    }

    [GeneratedRegex(@"\A[A-Za-z][A-Za-z0-9_.-]{0,61}[A-Za-z0-9]/[A-Za-z]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?\z")]
    private static partial Regex KindForm();

    [GeneratedRegex(@"\A[A-Za-z0-9]([A-Za-z0-9_.:-]{0,126}[A-Za-z0-9])?\z")]
    private static partial Regex NameForm();
}

/// <summary>One device.</summary>
/// <param name="Name">Its name within the kind.</param>
/// <param name="ContainerEdits">What it needs.</param>
/// <param name="Annotations">Notes.</param>
public sealed record CdiDevice(string Name, CdiEdits ContainerEdits, IReadOnlyDictionary<string, string>? Annotations = null);

/// <summary>What is added to a container's configuration.</summary>
public sealed record CdiEdits
{
    // Lists that a file leaves out arrive as null: generated readers set every member, and so overwrite initial values.

    /// <summary>Variables, as <c>NAME=value</c>.</summary>
    public IReadOnlyList<string> Env { get => field ?? []; init; }

    /// <summary>Device nodes.</summary>
    public IReadOnlyList<CdiNode> DeviceNodes { get => field ?? []; init; }

    /// <summary>Files of the host.</summary>
    public IReadOnlyList<CdiMount> Mounts { get => field ?? []; init; }

    /// <summary>Programs of the host that the runtime runs, as root.</summary>
    public IReadOnlyList<CdiHook> Hooks { get => field ?? []; init; }

    /// <summary>More groups for the process.</summary>
    public IReadOnlyList<uint> AdditionalGids { get => field ?? []; init; }

    /// <summary>Cache and memory bandwidth control of Intel's; not applied.</summary>
    public JsonElement? IntelRdt { get; init; }

    /// <summary>Network interfaces to be moved; not applied.</summary>
    public JsonElement? NetDevices { get; init; }
}

/// <summary>A device node.</summary>
/// <param name="Path">Where it is in the container.</param>
/// <param name="HostPath">Where it is on the host; <see langword="null"/> for the same.</param>
/// <param name="Type"><c>c</c>, <c>b</c>, <c>u</c> or <c>p</c>; <see langword="null"/>: what the host's is.</param>
/// <param name="Major">Its number; <see langword="null"/>: the host's.</param>
/// <param name="Minor">Its second number; <see langword="null"/>: the host's.</param>
/// <param name="FileMode">Its mode, or <see langword="null"/>.</param>
/// <param name="Permissions">What the container may do with it, of <c>rwm</c>.</param>
/// <param name="Uid">Its owner, or <see langword="null"/>.</param>
/// <param name="Gid">Its group, or <see langword="null"/>.</param>
public sealed record CdiNode(
    string Path, string? HostPath = null, string? Type = null, long? Major = null, long? Minor = null, uint? FileMode = null, string? Permissions = null, uint? Uid = null, uint? Gid = null);

/// <summary>A file or directory of the host.</summary>
public sealed record CdiMount(string HostPath, string ContainerPath, string? Type = null, IReadOnlyList<string>? Options = null);

/// <summary>A program of the host.</summary>
public sealed record CdiHook(string HookName, string Path, IReadOnlyList<string>? Args = null, IReadOnlyList<string>? Env = null, int? Timeout = null);

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase, UnmappedMemberHandling = JsonUnmappedMemberHandling.Disallow, RespectNullableAnnotations = true, RespectRequiredConstructorParameters = true)]
[JsonSerializable(typeof(CdiSpec))]
internal sealed partial class CdiJson : JsonSerializerContext;
