using System.Globalization;
using System.Security.Cryptography;
using System.Text;
using Sandbox.Isolation.Images;
using Sandbox.Isolation.Qemu.Machine;

namespace Sandbox.Isolation.Qemu.Golden;

/// <summary>
/// Names a golden snapshot by everything it silently depends on: QEMU restores a machine with other arguments or another image without a complaint, and
/// wrongly.
/// </summary>
internal static class GoldenFingerprint
{
    /// <summary>Raised when what is warmed, or how a machine is saved, changes.</summary>
    private const int Format = 1;

    public static string Of(string qemuVersion, string accelerator, string imageDirectory, TemplateSizes sizes)
    {
        var image = TemplateImage.Load(imageDirectory);
        var text = new StringBuilder()
            .Append(CultureInfo.InvariantCulture, $"golden {Format}\n{qemuVersion}\n{image.Template} {image.Version} {image.BuiltAt.UtcTicks}\n{sizes.DiskMiB}\n");
        foreach (var file in (string[])[image.Kernel, image.Initramfs, image.Root])
        {
            text.Append(CultureInfo.InvariantCulture, $"{file} {new FileInfo(Path.Combine(imageDirectory, file)).Length}\n");
        }

        text.AppendJoin('\n', CommandLine.Machine(accelerator, sizes.Vcpus, sizes.MemoryMiB)).Append('\n').Append(Processor);
        return Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(text.ToString())).AsSpan(0, 8));
    }

    /// <summary>Model and features of the host's processor, which a guest under KVM has seen and counts on. Read once: every start asks for a fingerprint.</summary>
    private static string Processor { get; } = string.Join(
        '\n',
        File.ReadLines("/proc/cpuinfo").Where(l => l.StartsWith("model name", StringComparison.Ordinal) || l.StartsWith("flags", StringComparison.Ordinal)).Distinct());
}
