using System.Text.Json;
using System.Text.Json.Serialization;
using System.Text.RegularExpressions;
using Sandbox.Isolation.Images;

namespace Sandbox.Templates;

/// <summary>
/// What a template is made of: a folder with <c>template.json</c>, an optional executable <c>customize</c> that is given the new root, and beside the folder
/// <c>initramfs/</c> with the first program of the guest and the list of its kernel modules.
/// </summary>
public sealed partial record TemplateDefinition
{
    /// <summary>Template id; see <see cref="ImageStore.IsTemplateName"/>.</summary>
    public required string Id { get; init; }

    /// <summary>What the image is made of: <see cref="TemplateImage.LinuxKind"/> or <see cref="TemplateImage.WasmKind"/>.</summary>
    public string Kind { get; init; } = TemplateImage.LinuxKind;

    /// <summary>Debian suite.</summary>
    public string Suite { get; init; } = "bookworm";

    /// <summary>Debian packages, without their recommendations.</summary>
    public IReadOnlyList<string> Packages { get; init; } = [];

    /// <summary>WebAssembly modules from packages of npm, for an image of that kind.</summary>
    public IReadOnlyList<ModulePackage> Modules { get; init; } = [];

    /// <summary>Programs from npm, for an image of Linux: each goes whole to <c>/usr/lib/node_modules</c>, and what its <c>package.json</c> names under <c>bin</c> to <c>/usr/bin</c>.</summary>
    public IReadOnlyList<PinnedPackage> NodePackages { get; init; } = [];

    /// <summary>Languages a context can be made for.</summary>
    public IReadOnlyList<string> Languages { get; init; } = ["bash"];

    /// <summary>Default sizes of a session.</summary>
    public TemplateSizes Sizes { get; init; } = new();

    /// <summary>The folder it was read from.</summary>
    [JsonIgnore]
    public string Folder { get; init; } = "";

    /// <summary>Folder with the initial RAM file system's own files.</summary>
    [JsonIgnore]
    public string InitramfsFolder => Path.Combine(Path.GetDirectoryName(Path.GetFullPath(Folder))!, "initramfs");

    /// <summary>Reads and checks a definition.</summary>
    /// <exception cref="TemplateException">It is missing, no JSON, or names something that cannot be.</exception>
    public static TemplateDefinition Load(string folder)
    {
        var file = Path.Combine(folder, "template.json");
        TemplateDefinition? definition;
        try
        {
            definition = JsonSerializer.Deserialize(File.ReadAllBytes(file), TemplateJson.Default.TemplateDefinition);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new TemplateException($"There is no template definition at {file}: {e.Message}", e);
        }
        catch (JsonException e)
        {
            throw new TemplateException($"{file} is no template definition: {e.Message}", e);
        }

        if (definition is null || !ImageStore.IsTemplateName(definition.Id))
        {
            throw new TemplateException($"{file}: id must match [a-z][a-z0-9-]{{0,39}}.");
        }

        // What a file leaves out is null here, whatever its default says: the generated reader sets every property that can only be set at creation.
        definition = definition with
        {
            Kind = definition.Kind ?? TemplateImage.LinuxKind,
            Suite = definition.Suite ?? "bookworm",
            Packages = definition.Packages ?? [],
            Modules = definition.Modules ?? [],
            NodePackages = definition.NodePackages ?? [],
            Languages = definition.Languages ?? ["bash"],
            Sizes = definition.Sizes ?? new TemplateSizes(),
        };
        if (!Name().IsMatch(definition.Suite))
        {
            throw new TemplateException($"{file}: suite '{definition.Suite}' is no Debian suite.");
        }

        if (definition.Packages.FirstOrDefault(p => !Name().IsMatch(p)) is { } bad)
        {
            throw new TemplateException($"{file}: '{bad}' is no name of a Debian package.");
        }

        if (definition.Kind == TemplateImage.WasmKind ? definition.Packages.Count + definition.NodePackages.Count > 0 || definition.Modules.Count == 0 : definition.Kind != TemplateImage.LinuxKind || definition.Packages.Count == 0 || definition.Modules.Count > 0)
        {
            throw new TemplateException($"{file}: a template of kind '{TemplateImage.LinuxKind}' has packages and no modules, one of kind '{TemplateImage.WasmKind}' modules and no packages.");
        }

        if (definition.Modules.Concat(definition.NodePackages).Select(m => m.Problem).FirstOrDefault(p => p is not null) is { } problem)
        {
            throw new TemplateException($"{file}: {problem}");
        }

        if (definition.Sizes is not { Vcpus: >= 1 and <= 32, MemoryMiB: >= 128 and <= 65536, DiskMiB: >= 64 and <= 1048576 })
        {
            throw new TemplateException($"{file}: sizes are out of range (vcpus 1..32, memoryMiB 128..65536, diskMiB 64..1048576).");
        }

        return definition with { Folder = Path.GetFullPath(folder) };
    }

    [GeneratedRegex(@"\A[a-z0-9][a-z0-9+.-]{0,99}\z")]
    private static partial Regex Name();
}

/// <summary>Why an image cannot be built. The message is fit for users.</summary>
public sealed class TemplateException(string message, Exception? inner = null) : Exception(message, inner);

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase, UnmappedMemberHandling = JsonUnmappedMemberHandling.Disallow)]
[JsonSerializable(typeof(TemplateDefinition))]
internal sealed partial class TemplateJson : JsonSerializerContext;
