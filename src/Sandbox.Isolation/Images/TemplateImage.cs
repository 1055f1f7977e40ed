using System.Text.Json;
using System.Text.Json.Serialization;

namespace Sandbox.Isolation.Images;

/// <summary>
/// The manifest (<c>image.json</c>) of one built version of a template: written last by the builder, so that a directory without it
/// is an unfinished build. All file names are relative to the image directory.
/// </summary>
public sealed record TemplateImage
{
    // Defaults stand in the getters: the generated reader sets every member, one that the file leaves out to null, and so overwrites initial values. Images of older programs have no kind.

    /// <summary>Name of the manifest file in an image directory.</summary>
    public const string FileName = "image.json";

    /// <summary><see cref="Kind"/> of an image with a Linux root file system and a kernel.</summary>
    public const string LinuxKind = "linux";

    /// <summary><see cref="Kind"/> of an image that is a set of WebAssembly modules.</summary>
    public const string WasmKind = "wasm";

    /// <summary>Format of this manifest; readers refuse others.</summary>
    public int Format { get; init; } = 1;

    /// <summary>Template id, for example <c>python</c>.</summary>
    public required string Template { get; init; }

    /// <summary>Version: the first 16 hex digits of the SHA-256 over everything that went into the image.</summary>
    public required string Version { get; init; }

    /// <summary>What it is made of, and so which backends can start it; see <see cref="Backends.IIsolationBackend.ImageKind"/>.</summary>
    public string Kind { get => field ?? LinuxKind; init; }

    /// <summary>When the build finished (UTC).</summary>
    public required DateTimeOffset BuiltAt { get; init; }

    /// <summary>Kernel image (bzImage).</summary>
    public string Kernel { get => field ?? "vmlinuz"; init; }

    /// <summary>Release of that kernel, as <c>uname -r</c> in the guest prints it.</summary>
    public required string KernelRelease { get; init; }

    /// <summary>Initial RAM file system with the modules the guest needs before its root is mounted.</summary>
    public string Initramfs { get => field ?? "initramfs.img"; init; }

    /// <summary>Read-only root file system (erofs).</summary>
    public string Root { get => field ?? "root.erofs"; init; }

    /// <summary>User that commands run as when nothing is said.</summary>
    public string DefaultUser { get => field ?? "user"; init; }

    /// <summary>That user's home, the default working directory.</summary>
    public string DefaultDirectory { get => field ?? "/home/user"; init; }

    /// <summary>Default sizes of a session of this template.</summary>
    public TemplateSizes Sizes { get => field ?? new TemplateSizes(); init; }

    /// <summary>Languages a context can be made for.</summary>
    public IReadOnlyList<string> Languages { get => field ?? ["python", "javascript", "bash"]; init; }

    /// <summary>Reads the manifest of an image directory.</summary>
    /// <exception cref="FileNotFoundException">The directory holds no finished image.</exception>
    /// <exception cref="InvalidDataException">The manifest is not of a format this program knows.</exception>
    public static TemplateImage Load(string imageDirectory)
    {
        var path = Path.Combine(imageDirectory, FileName);
        using var file = File.OpenRead(path);
        TemplateImage? image;
        try
        {
            image = JsonSerializer.Deserialize(file, TemplateImageJson.Default.TemplateImage);
        }
        catch (JsonException e)
        {
            throw new InvalidDataException($"{path} is not an image manifest: {e.Message}", e);
        }

        return image is { Format: 1 } ? image : throw new InvalidDataException($"{path} has format {image?.Format}; this program reads format 1. Build the image again.");
    }

    /// <summary>Writes the manifest atomically: a reader sees all of it or none.</summary>
    public void Save(string imageDirectory)
    {
        var path = Path.Combine(imageDirectory, FileName);
        var partial = path + ".partial";
        File.WriteAllBytes(partial, JsonSerializer.SerializeToUtf8Bytes(this, TemplateImageJson.Default.TemplateImage));
        File.Move(partial, path, overwrite: true);
    }
}

/// <summary>Default sizes of a template's sessions.</summary>
public sealed record TemplateSizes
{
    /// <summary>Virtual CPUs.</summary>
    public int Vcpus { get; init; } = 1;

    /// <summary>Memory in MiB.</summary>
    public int MemoryMiB { get; init; } = 512;

    /// <summary>Writable disk in MiB.</summary>
    public int DiskMiB { get; init; } = 2048;
}

[JsonSourceGenerationOptions(WriteIndented = true, PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase)]
[JsonSerializable(typeof(TemplateImage))]
internal sealed partial class TemplateImageJson : JsonSerializerContext;
