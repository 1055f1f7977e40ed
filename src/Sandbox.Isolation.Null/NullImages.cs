using System.Security.Cryptography;
using System.Text;
using Sandbox.Isolation.Images;

namespace Sandbox.Isolation.Null;

/// <summary>
/// The template <c>null</c>: a manifest with nothing behind it, because a host takes sessions only for templates that it has an image of. Nothing but <see cref="NullBackend"/> can start it, so
/// that it belongs into an image root of its own.
/// </summary>
public static class NullImages
{
    /// <summary>Kind of the image.</summary>
    public const string Kind = "null";

    /// <summary>Name of the template.</summary>
    public const string Template = "null";

    private static readonly string Version = Convert.ToHexStringLower(SHA256.HashData(Encoding.ASCII.GetBytes("null 2")))[..16];

    /// <summary>Writes the image unless it is there. Several processes may do so at once.</summary>
    /// <param name="imageRoot">Root of the images; made if need be.</param>
    /// <returns>Directory of the image.</returns>
    public static string Ensure(string imageRoot)
    {
        var store = new ImageStore(imageRoot);
        var directory = store.VersionDirectory(Template, Version);
        if (store.FindCurrent(Template) == directory)
        {
            return directory;
        }

        var building = directory + "." + Guid.NewGuid().ToString("N");
        Directory.CreateDirectory(building);
        new TemplateImage
        {
            Template = Template,
            Version = Version,
            BuiltAt = DateTimeOffset.UtcNow,
            KernelRelease = "none",
            Kind = Kind,
            Languages = ["python", "bash"],
            Sizes = new TemplateSizes { Vcpus = 1, MemoryMiB = 128, DiskMiB = 64 },
        }.Save(building);
        try
        {
            Directory.Move(building, directory);
        }
        catch (IOException) when (Directory.Exists(directory))
        {
            // Another process was first; its image is the same.
            Directory.Delete(building, recursive: true);
        }

        try
        {
            store.SetCurrent(Template, Version);
        }
        catch (IOException) when (store.FindCurrent(Template) == directory)
        {
        }

        return directory;
    }
}
