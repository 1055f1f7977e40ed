using System.Diagnostics;
using Microsoft.Extensions.Logging;
using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Disks;
using Sandbox.Isolation.Firecracker.Machine;
using Sandbox.Isolation.Firecracker.Memory;
using Sandbox.Isolation.Golden;
using Sandbox.Isolation.Images;

namespace Sandbox.Isolation.Firecracker;

// Golden snapshots: made by booting once, used by every new microVM of the same image and sizes.
public sealed partial class FirecrackerBackend
{
    private readonly GoldenStore _golden;

    /// <inheritdoc/>
    public async Task<GoldenSnapshot?> FindGoldenAsync(string imageDirectory, TemplateSizes sizes, CancellationToken cancellationToken)
    {
        var readiness = await _readiness.Value.WaitAsync(cancellationToken);
        return readiness is { Verdict.Usable: true, Host: { } host } ? _golden.Find(imageDirectory, FingerprintOf(host, imageDirectory, sizes)) : null;
    }

    /// <inheritdoc/>
    public async Task<GoldenSnapshot> BuildGoldenAsync(string imageDirectory, TemplateSizes sizes, CancellationToken cancellationToken)
    {
        var host = await RequireUsableAsync(cancellationToken);
        var fingerprint = FingerprintOf(host, imageDirectory, sizes);
        return _golden.Find(imageDirectory, fingerprint)
            ?? await _golden.BuildAsync(imageDirectory, fingerprint, null, (directory, ct) => SaveGoldenAsync(host, imageDirectory, fingerprint, sizes, directory, ct), cancellationToken);
    }

    /// <inheritdoc/>
    public async Task<IMicroVm?> PrepareAsync(MicroVmSpec spec, CancellationToken cancellationToken)
    {
        Check(spec);
        var readiness = await _readiness.Value.WaitAsync(cancellationToken);
        if (readiness is not { Verdict.Usable: true, Host: { } host } || await TryCloneAsync(host, spec, Stopwatch.StartNew(), cancellationToken) is not { } vm)
        {
            return null;
        }

        try
        {
            await vm.ParkAsync(cancellationToken);
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

    private static string FingerprintOf(FirecrackerHost host, string imageDirectory, TemplateSizes sizes) => FirecrackerFingerprint.Of(host.Version, imageDirectory, sizes);

    /// <summary>Under the maker's lock there is no snapshot yet, so what is started here is booted.</summary>
    private async Task SaveGoldenAsync(FirecrackerHost host, string imageDirectory, string fingerprint, TemplateSizes sizes, string directory, CancellationToken cancellationToken)
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
        _own[spec.Owner.VmId] = true;
        try
        {
            await using var vm = await BootAsync(host, spec, null, _options.BootDeadline, cancellationToken);
            await WarmUp.RunAsync(vm.Guest, TemplateImage.Load(imageDirectory).Languages, _logger, cancellationToken);
            await vm.SaveGoldenAsync(directory, (long)sizes.MemoryMiB << 20, cancellationToken);
        }
        finally
        {
            _own.TryRemove(spec.Owner.VmId, out _);
        }
    }

    /// <summary>A clone of the golden snapshot, or <see langword="null"/> where there is none that fits or the clone failed: then the machine is booted.</summary>
    private async Task<FirecrackerMicroVm?> TryCloneAsync(FirecrackerHost host, MicroVmSpec spec, Stopwatch clock, CancellationToken cancellationToken)
    {
        if (File.Exists(spec.DiskPath))
        {
            return null;
        }

        var sizes = SizesOf(spec);
        try
        {
            var fingerprint = FingerprintOf(host, spec.ImageDirectory, sizes);
            if (_golden.Find(spec.ImageDirectory, fingerprint) is not { } golden)
            {
                return null;
            }

            await DataDisk.CopyAsync(Path.Combine(golden.Directory, GoldenContent.Disk), spec.DiskPath, cancellationToken);
            var origin = new MachineOrigin
            {
                Facts = FactsOf(fingerprint, golden.Id, sizes),
                Golden = golden,
                State = await File.ReadAllBytesAsync(Path.Combine(golden.Directory, GoldenContent.Devices), cancellationToken),
                Memory = MemoryFile.Of(golden),
            };
            var vm = await StartOnceAsync(host, spec, "", origin, _options.CloneDeadline, cancellationToken);
            vm.Report("clone", clock.Elapsed);
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
