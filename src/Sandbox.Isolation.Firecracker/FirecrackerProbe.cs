using System.Diagnostics;
using System.Text.Json;
using Microsoft.Extensions.Logging;
using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Images;

namespace Sandbox.Isolation.Firecracker;

/// <summary>
/// Finds out whether Firecracker is usable: first whether its programs are there and of a version that is known, which costs nothing, then by booting the guest. /dev/kvm existing, and even opening, proves
/// nothing: nested and paravirtualised hosts offer one under which a stock kernel hangs. That verdict is kept until the host's kernel, Firecracker or the image changes.
/// </summary>
internal sealed class FirecrackerProbe(FirecrackerOptions options, bool isRoot, ILogger logger)
{
    /// <summary>Said with every verdict, until a machine was found on which the live tests have run.</summary>
    public const string NotVerified =
        "the Firecracker backend was built against Firecracker's API specification and is not verified on hardware: no machine with a usable KVM was at hand. Run its live tests on yours first (docs/firecracker.md).";

    /// <summary>How long a program may take to print its version.</summary>
    private static readonly TimeSpan VersionDeadline = TimeSpan.FromSeconds(5);

    /// <summary>The probe's microVM of this process, which no lease names.</summary>
    public static string OwnId { get; } = $"fc-probe-{Environment.ProcessId}";

    private string CacheFile => Path.Combine(options.VerdictDirectory ?? options.CacheDirectory, "firecracker-verdict.json");

    /// <summary>Looks for the programs. A version is given only where there is no reason not to try them.</summary>
    public async Task<(FirecrackerVersion? Version, string Reason)> FindAsync(CancellationToken cancellationToken)
    {
        if (!File.Exists(options.Binary))
        {
            return (null, $"there is no {options.Binary}; install a release of Firecracker (it is in no Debian archive)");
        }

        if (isRoot && !options.AllowUnjailed && !File.Exists(options.Jailer))
        {
            return (null, $"there is {options.Binary} and no {options.Jailer}: this program is root, and does not run Firecracker as root without its jailer; install the jailer of the same release");
        }

        string text;
        try
        {
            text = await RunAsync(options.Binary, cancellationToken);
        }
        catch (Exception e) when (e is System.ComponentModel.Win32Exception or IOException or OperationCanceledException && !cancellationToken.IsCancellationRequested)
        {
            return (null, $"{options.Binary} does not run: {e.Message}");
        }

        var line = new string([.. text.Split('\n')[0].Where(c => c is >= ' ' and < (char)127).Take(80)]);
        if (FirecrackerVersion.Parse(text) is not { } version)
        {
            return (null, $"{options.Binary} --version says '{line}', which is no version of Firecracker");
        }

        return version.Problem is { } problem ? (null, problem) : (version, line);
    }

    /// <summary>Boots the guest once.</summary>
    public async Task<(bool Usable, string Reason)> TryAsync(FirecrackerVersion version, Func<MicroVmSpec, CancellationToken, Task<IMicroVm>> start, CancellationToken cancellationToken)
    {
        if (!File.Exists(options.KvmDevice))
        {
            return (false, $"this host has no {options.KvmDevice}, and Firecracker runs on nothing but KVM");
        }

        if (options.ProbeImage() is not { } image)
        {
            return (false, "there is no guest image yet to try it with; build one with: sandbox image build");
        }

        var key = $"{Environment.OSVersion.VersionString}|{version}|{options.Binary}|{TemplateImage.Load(image).Version}|{(isRoot && !options.AllowUnjailed ? "jailed" : "bare")}";
        if (Load() is { } known && known.Key == key)
        {
            return (known.Usable, known.Reason);
        }

        var verdict = await BootAsync(image, start, cancellationToken);
        Directory.CreateDirectory(Path.GetDirectoryName(CacheFile)!);
        await File.WriteAllBytesAsync(CacheFile, JsonSerializer.SerializeToUtf8Bytes(new Verdict(key, verdict.Usable, verdict.Reason)), cancellationToken);
        return verdict;
    }

    private async Task<(bool Usable, string Reason)> BootAsync(string image, Func<MicroVmSpec, CancellationToken, Task<IMicroVm>> start, CancellationToken cancellationToken)
    {
        var disk = Path.Combine(options.CacheDirectory, OwnId + ".img");
        logger.LogInformation("Trying Firecracker by booting the guest (at most {Seconds} s, once for each kernel, version and image)", options.KvmProbeDeadline.TotalSeconds);
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
            return (true, "the guest booted");
        }
        catch (IsolationException e)
        {
            return (false, $"the guest does not boot: {e.Message.Split('\n')[0]}");
        }
        finally
        {
            File.Delete(disk);
        }
    }

    private static async Task<string> RunAsync(string binary, CancellationToken cancellationToken)
    {
        using var limit = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        limit.CancelAfter(VersionDeadline);
        using var process = Process.Start(new ProcessStartInfo(binary, ["--version"]) { RedirectStandardOutput = true, RedirectStandardError = true, RedirectStandardInput = true })!;
        try
        {
            process.StandardInput.Close();
            var buffer = new char[4096];
            var length = await process.StandardOutput.ReadBlockAsync(buffer, limit.Token);
            return new string(buffer, 0, length);
        }
        finally
        {
            if (!process.HasExited)
            {
                process.Kill();
            }
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
