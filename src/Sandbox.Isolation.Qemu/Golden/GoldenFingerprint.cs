using System.Globalization;
using System.Security.Cryptography;
using System.Text;
using Sandbox.Isolation.Hosting;
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
    private const int Format = 3;

    public static string Of(string qemuVersion, string accelerator, string imageDirectory, TemplateSizes sizes, long tscKhz, bool network)
    {
        var image = TemplateImage.Load(imageDirectory);
        var text = new StringBuilder()
            .Append(CultureInfo.InvariantCulture, $"golden {Format}\n{qemuVersion}\n{image.Template} {image.Version} {image.BuiltAt.UtcTicks}\n{sizes.DiskMiB}\n");
        foreach (var file in (string[])[image.Kernel, image.Initramfs, image.Root])
        {
            text.Append(CultureInfo.InvariantCulture, $"{file} {new FileInfo(Path.Combine(imageDirectory, file)).Length}\n");
        }

        // Equal machines measure their clocks a little differently; a part in a thousand is no other machine.
        var rate = accelerator == "tcg" ? (long)Math.Round(Math.Log(tscKhz) * 1000) : 0;
        text.AppendJoin('\n', CommandLine.Machine(accelerator, sizes.Vcpus, sizes.MemoryMiB, tscKhz: 0, network)).Append(CultureInfo.InvariantCulture, $"\nclock {rate}\n").Append(HostProcessor.Description);
        return Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(text.ToString())).AsSpan(0, 8));
    }
}
