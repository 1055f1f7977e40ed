using System.Text.Json;
using Microsoft.Extensions.Logging;
using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Images;

namespace Sandbox.Isolation.Qemu;

/// <summary>
/// Finds out whether KVM is usable by booting the guest under it. /dev/kvm existing, and even opening, proves nothing: nested and
/// paravirtualised hosts offer one under which a stock kernel hangs. The verdict is kept until the kernel, QEMU or the image changes.
/// </summary>
internal sealed class KvmProbe(QemuOptions options, string qemuVersion, ILogger logger)
{
    /// <summary>The probe's microVM of this process, which no lease names.</summary>
    public static string OwnId { get; } = $"kvm-probe-{Environment.ProcessId}";

    private string CacheFile => Path.Combine(options.VerdictDirectory ?? options.CacheDirectory, "kvm-verdict.json");

    public async Task<(bool Usable, string Reason)> RunAsync(Func<MicroVmSpec, CancellationToken, Task<IMicroVm>> start, CancellationToken cancellationToken)
    {
        if (!File.Exists("/dev/kvm"))
        {
            return (false, "this host has no /dev/kvm");
        }

        if (options.ProbeImage() is not { } image)
        {
            return (false, "there is no guest image yet to try it with; build one with: sandbox image build");
        }

        var key = $"{Environment.OSVersion.VersionString}|{qemuVersion}|{TemplateImage.Load(image).Version}";
        if (Load() is { } known && known.Key == key)
        {
            return (known.Usable, known.Reason);
        }

        var verdict = await TryAsync(image, start, cancellationToken);
        Directory.CreateDirectory(Path.GetDirectoryName(CacheFile)!);
        await File.WriteAllBytesAsync(CacheFile, JsonSerializer.SerializeToUtf8Bytes(new Verdict(key, verdict.Usable, verdict.Reason)), cancellationToken);
        return verdict;
    }

    private async Task<(bool Usable, string Reason)> TryAsync(string image, Func<MicroVmSpec, CancellationToken, Task<IMicroVm>> start, CancellationToken cancellationToken)
    {
        var disk = Path.Combine(options.CacheDirectory, OwnId + ".img");
        logger.LogInformation("Trying KVM by booting the guest under it (at most {Seconds} s, once for each kernel, QEMU and image)", options.KvmProbeDeadline.TotalSeconds);
        try
        {
            var spec = new MicroVmSpec
            {
                Owner = new MicroVmOwner(OwnId, "", 0),
                ImageDirectory = image,
                Vcpus = 1,
                MemoryMiB = 256,
                DiskMiB = 64,
                DiskPath = disk,
                Hostname = "probe",
            };
            await using var vm = await start(spec, cancellationToken);
            return (true, "the guest booted under it");
        }
        catch (IsolationException e)
        {
            return (false, $"the guest does not boot under it: {e.Message.Split('\n')[0]}");
        }
        finally
        {
            File.Delete(disk);
        }
    }

    private Verdict? Load()
    {
        try
        {
            return JsonSerializer.Deserialize<Verdict>(File.ReadAllBytes(CacheFile));
        }
        catch (Exception e) when (e is IOException or JsonException)
        {
            return null;
        }
    }

    private sealed record Verdict(string Key, bool Usable, string Reason);
}
