using System.Globalization;
using System.Security.Cryptography;
using System.Text;
using Sandbox.Isolation.Firecracker.Machine;
using Sandbox.Isolation.Hosting;
using Sandbox.Isolation.Images;

namespace Sandbox.Isolation.Firecracker;

/// <summary>
/// Names everything that a snapshot silently depends on. Firecracker checks the format of its own state file and little else: another processor, image or size it would load, and wrongly.
/// </summary>
internal static class FirecrackerFingerprint
{
    /// <summary>Raised when what is warmed, or how a machine is configured or saved, changes.</summary>
    private const int Format = 1;

    public static string Of(FirecrackerVersion version, string imageDirectory, TemplateSizes sizes)
    {
        var image = TemplateImage.Load(imageDirectory);
        var text = new StringBuilder().Append(
            CultureInfo.InvariantCulture,
            $"firecracker {Format}\n{version}\n{image.Template} {image.Version} {image.BuiltAt.UtcTicks}\n{sizes.Vcpus} {sizes.MemoryMiB} {sizes.DiskMiB}\n{BootArguments.Line}\n");
        foreach (var file in (string[])[image.Kernel, image.Initramfs, image.Root])
        {
            text.Append(CultureInfo.InvariantCulture, $"{file} {new FileInfo(Path.Combine(imageDirectory, file)).Length}\n");
        }

        // The host's kernel is part of it too: what KVM offers a guest changes with it.
        text.Append(Environment.OSVersion.VersionString).Append('\n').Append(HostProcessor.Description);
        return Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(text.ToString())).AsSpan(0, 8));
    }
}
