using System.Collections.Concurrent;
using System.Diagnostics;
using Microsoft.Extensions.Logging;
using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Disks;
using Sandbox.Isolation.Golden;
using Sandbox.Isolation.Images;
using Sandbox.Isolation.Qemu.Golden;
using Sandbox.Isolation.Qemu.Machine;
using Sandbox.Isolation.Qemu.Memory;

namespace Sandbox.Isolation.Qemu;

// Golden snapshots: made by booting once, used by every new microVM of the same image and sizes.
public sealed partial class QemuBackend
{
    private readonly GoldenStore _golden;
    private readonly LoadedGoldens _goldens = new();
    private readonly ConcurrentDictionary<string, bool> _saving = new(StringComparer.Ordinal);

    /// <inheritdoc/>
    public async Task<GoldenSnapshot?> FindGoldenAsync(string imageDirectory, TemplateSizes sizes, CancellationToken cancellationToken)
    {
        var verdict = await ProbeAsync(cancellationToken);
        return verdict.Usable ? _golden.Find(imageDirectory, FingerprintOf(verdict, imageDirectory, sizes)) : null;
    }

    /// <inheritdoc/>
    public async Task<GoldenSnapshot> BuildGoldenAsync(string imageDirectory, TemplateSizes sizes, CancellationToken cancellationToken)
    {
        var fingerprint = FingerprintOf(await RequireUsableAsync(cancellationToken), imageDirectory, sizes);
        return _golden.Find(imageDirectory, fingerprint)
            ?? await _golden.BuildAsync(imageDirectory, fingerprint, null, (directory, ct) => SaveGoldenAsync(imageDirectory, fingerprint, sizes, directory, ct), cancellationToken);
    }

    /// <inheritdoc/>
    public async Task<IMicroVm?> PrepareAsync(MicroVmSpec spec, CancellationToken cancellationToken)
    {
        Check(spec);
        var verdict = await ProbeAsync(cancellationToken);
        if (!verdict.Usable || await TryCloneAsync(spec, verdict, Stopwatch.StartNew(), cancellationToken) is not { } vm)
        {
            return null;
        }

        try
        {
            await ((QemuMicroVm)vm).ParkAsync(cancellationToken);
            return vm;
        }
        catch (Exception e)
        {
            await vm.DisposeAsync();
            RemoveDisk(spec);
            cancellationToken.ThrowIfCancellationRequested();
            throw new IsolationException($"MicroVM {spec.Owner.VmId} could not be made ready for the warm pool: {e.Message}", e);
        }
    }

    private string FingerprintOf(BackendVerdict verdict, string imageDirectory, TemplateSizes sizes) =>
        GoldenFingerprint.Of(verdict.Version, verdict.Accelerator, imageDirectory, sizes, _hostClock.TscKhz, HasNetwork);

    /// <summary>Under the maker's lock there is no snapshot yet, so what is started here is booted.</summary>
    private async Task SaveGoldenAsync(string imageDirectory, string fingerprint, TemplateSizes sizes, string directory, CancellationToken cancellationToken)
    {
        var spec = new MicroVmSpec
        {
            Owner = new MicroVmOwner($"golden-{fingerprint}-{Environment.ProcessId}", "", 0),
            ImageDirectory = imageDirectory,
            Vcpus = sizes.Vcpus,
            MemoryMiB = sizes.MemoryMiB,
            DiskMiB = sizes.DiskMiB,
            DiskPath = Path.Combine(directory, GoldenContent.Disk),
            Hostname = "sandbox",
        };

        // The reaper must not take a machine that no session owns for a leftover while it is being saved.
        _saving[spec.Owner.VmId] = true;
        try
        {
            await using var started = await StartAsync(spec, cancellationToken);
            var vm = (QemuMicroVm)started;
            await WarmUp.RunAsync(vm.Guest, TemplateImage.Load(imageDirectory).Languages, _logger, cancellationToken);
            var devices = await vm.SaveDevicesAsync(cancellationToken);
            await File.WriteAllBytesAsync(Path.Combine(directory, GoldenContent.Devices), devices, cancellationToken);
            using var memory = vm.OpenMemory();
            using var file = File.OpenHandle(Path.Combine(directory, GoldenContent.Memory), FileMode.CreateNew, FileAccess.Write);
            SparseCopy.Copy(memory, file, (long)sizes.MemoryMiB << 20);
        }
        finally
        {
            _saving.TryRemove(spec.Owner.VmId, out _);
        }
    }

    /// <summary>A clone of the golden snapshot, or <see langword="null"/> where there is none that fits or the clone failed: then the machine is booted.</summary>
    private async Task<IMicroVm?> TryCloneAsync(MicroVmSpec spec, BackendVerdict verdict, Stopwatch clock, CancellationToken cancellationToken)
    {
        if (File.Exists(spec.DiskPath))
        {
            return null;
        }

        var sizes = SizesOf(spec);
        try
        {
            var fingerprint = FingerprintOf(verdict, spec.ImageDirectory, sizes);
            if (_golden.Find(spec.ImageDirectory, fingerprint) is not { } golden)
            {
                return null;
            }

            var loaded = await _goldens.LoadAsync(golden, cancellationToken);
            await DataDisk.CopyAsync(Path.Combine(golden.Directory, GoldenContent.Disk), spec.DiskPath, cancellationToken);
            var origin = new MachineOrigin
            {
                Facts = FactsOf(fingerprint, loaded.Id, sizes),
                Base = SharedMemoryBase.Of(loaded),
                Sharing = _sharing,
                LoadAsync = (_, _) => Task.FromResult<ReadOnlyMemory<byte>>(loaded.Devices),
            };
            var vm = await StartOnceAsync(spec, verdict.Accelerator, origin, _options.CloneDeadline, cancellationToken);
            vm.Report("clone", verdict.Accelerator, 1, clock.Elapsed);
            return vm;
        }
        catch (Exception e) when (e is IsolationException or IOException or UnauthorizedAccessException)
        {
            // Nothing has run on the copied disk that anybody has seen: a boot makes its own.
            _logger.LogWarning(e, "MicroVM {VmId} could not be cloned from the golden snapshot; it is booted", spec.Owner.VmId);
            RemoveDisk(spec);
            return null;
        }
        catch
        {
            RemoveDisk(spec);
            throw;
        }
    }

    private static void RemoveDisk(MicroVmSpec spec)
    {
        File.Delete(spec.DiskPath);
        File.Delete(spec.DiskPath + DataDisk.Partial);
    }
}
