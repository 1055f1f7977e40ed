using System.Diagnostics;
using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Golden;
using Sandbox.Isolation.Images;
using Sandbox.Isolation.Qemu.Golden;
using Sandbox.Isolation.Qemu.Machine;
using Sandbox.Isolation.Qemu.Memory;

namespace Sandbox.Isolation.Qemu;

// Saved machines: whether they fit, bringing them back, and the golden snapshots of other hosts that they are differences from.
public sealed partial class QemuBackend
{
    /// <summary>How long a memory that several machines share stays when none does any more.</summary>
    private static readonly TimeSpan SharedLinger = TimeSpan.FromSeconds(30);

    private readonly MemorySharing _sharing = new(SharedLinger);

    /// <inheritdoc/>
    public async Task<RestoreFit> FitAsync(string imageDirectory, TemplateSizes sizes, MachineFacts facts, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(sizes);
        ArgumentNullException.ThrowIfNull(facts);
        var verdict = await ProbeAsync(cancellationToken);
        if (!verdict.Usable || !File.Exists(Path.Combine(imageDirectory, TemplateImage.FileName)) || Mismatch(verdict, imageDirectory, sizes, facts) is not null)
        {
            return RestoreFit.Foreign;
        }

        return facts.GoldenId is null || _golden.Find(imageDirectory, facts.Fingerprint, facts.GoldenId) is not null ? RestoreFit.Ready : RestoreFit.NeedsGolden;
    }

    /// <inheritdoc/>
    public async Task ExportGoldenAsync(string imageDirectory, TemplateSizes sizes, string goldenId, IMachineSink sink, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(sizes);
        ArgumentNullException.ThrowIfNull(sink);
        var fingerprint = FingerprintOf(await RequireUsableAsync(cancellationToken), imageDirectory, sizes);
        var golden = _golden.Find(imageDirectory, fingerprint, goldenId)
            ?? throw new IsolationException($"This host has no golden snapshot {goldenId} of {imageDirectory} for {Describe(sizes)}.");
        await Task.Run(() => GoldenContent.ExportAsync(golden.Directory, FactsOf(fingerprint, null, sizes), sink, cancellationToken), cancellationToken);
    }

    /// <inheritdoc/>
    public async Task ImportGoldenAsync(string imageDirectory, TemplateSizes sizes, string goldenId, IMachineSource source, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(sizes);
        ArgumentNullException.ThrowIfNull(source);
        if (!GoldenStore.IsId(goldenId))
        {
            throw new IsolationException($"'{goldenId}' is no id of a golden snapshot.");
        }

        var verdict = await RequireUsableAsync(cancellationToken);
        if (Mismatch(verdict, imageDirectory, sizes, source.Facts) is { } mismatch || (mismatch = source.Facts.GoldenId is null ? null : "it is itself a difference from another") is not null)
        {
            throw new IsolationException($"The golden snapshot {goldenId} of another host cannot be used here: {mismatch}.");
        }

        try
        {
            await _golden.BuildAsync(imageDirectory, source.Facts.Fingerprint, goldenId, (directory, ct) => Task.Run(() => GoldenContent.ImportAsync(directory, source, ct), ct), cancellationToken);
        }
        catch (Exception e) when (e is IOException or InvalidDataException)
        {
            throw new IsolationException($"The golden snapshot {goldenId} of another host could not be taken: {e.Message}", e);
        }
    }

    /// <summary>Brings a saved machine back, whole or not at all.</summary>
    private async Task<IMicroVm> RestoreAsync(MicroVmSpec spec, MachineRestore restore, BackendVerdict verdict, CancellationToken cancellationToken)
    {
        var clock = Stopwatch.StartNew();
        var facts = restore.Source.Facts;
        var sizes = SizesOf(spec);
        if (Mismatch(verdict, spec.ImageDirectory, sizes, facts) is { } mismatch)
        {
            throw new IsolationException($"MicroVM {spec.Owner.VmId} cannot be restored here: {mismatch}.");
        }

        LoadedGolden? golden = null;
        if (facts.GoldenId is { } goldenId)
        {
            var found = _golden.Find(spec.ImageDirectory, facts.Fingerprint, goldenId)
                ?? throw new IsolationException($"MicroVM {spec.Owner.VmId} cannot be restored yet: its golden snapshot {goldenId} is not on this host; import it first.");
            golden = await _goldens.LoadAsync(found, cancellationToken);
        }

        var lease = golden is null ? null : await RentAsync(spec, restore, golden, cancellationToken);
        try
        {
            await using var feed = await RestoreFeed.StartAsync(restore.Source, golden, spec.DiskPath, withMemory: lease is null);
            var origin = new MachineOrigin
            {
                Facts = facts,
                Base = lease?.Base ?? (golden is null ? null : SharedMemoryBase.Of(golden)),
                Lease = lease?.Again(),
                Sharing = golden is null ? null : _sharing,
                LoadAsync = feed.FillAsync,
                DiskPath = feed.PartialDisk,
                Memo = () => feed.Memo,
                Executions = restore.Executions,
            };
            QemuMicroVm vm;
            try
            {
                vm = await StartOnceAsync(spec, verdict.Accelerator, origin, _options.RestoreDeadline, cancellationToken);
            }
            catch
            {
                origin.Lease?.Dispose();
                throw;
            }

            try
            {
                // The last thing: a disk that was there before stays if anything fails.
                feed.PlaceDisk();
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                await vm.DisposeAsync();
                throw new IsolationException($"MicroVM {spec.Owner.VmId} could not be restored: its disk cannot be put in place: {e.Message}", e);
            }

            vm.Report("restore", verdict.Accelerator, 1, clock.Elapsed);
            return vm;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new IsolationException($"MicroVM {spec.Owner.VmId} could not be restored: {e.Message}", e);
        }
        finally
        {
            lease?.Dispose();
        }
    }

    private async Task<SharedMemoryBases.Lease?> RentAsync(MicroVmSpec spec, MachineRestore restore, LoadedGolden golden, CancellationToken cancellationToken)
    {
        try
        {
            return await _sharing.RentAsync(golden, restore, cancellationToken);
        }
        catch (Exception e) when (e is not (IsolationException or OperationCanceledException) || (e is OperationCanceledException && !cancellationToken.IsCancellationRequested))
        {
            throw new IsolationException($"MicroVM {spec.Owner.VmId} could not be restored: {e.Message}", e);
        }
    }

    private MachineFacts FactsOf(string fingerprint, string? goldenId, TemplateSizes sizes) =>
        new(Name, fingerprint, goldenId, (long)sizes.MemoryMiB << 20, (long)sizes.DiskMiB << 20);

    /// <summary>What does not fit, for people; <see langword="null"/> where all does.</summary>
    private string? Mismatch(BackendVerdict verdict, string imageDirectory, TemplateSizes sizes, MachineFacts facts)
    {
        if (facts.Backend != Name)
        {
            return $"it was saved by backend '{facts.Backend}'";
        }

        var fingerprint = FingerprintOf(verdict, imageDirectory, sizes);
        var here = FactsOf(fingerprint, facts.GoldenId, sizes);
        return facts == here ? null
            : facts.MemoryBytes != here.MemoryBytes || facts.DiskBytes != here.DiskBytes ? $"it has {facts.MemoryBytes >> 20} MiB of memory and a disk of {facts.DiskBytes >> 20} MiB, not {Describe(sizes)}"
            : $"QEMU, processor, clock, image or sizes are others than where it was saved (fingerprint {facts.Fingerprint}, here {fingerprint})";
    }

    private static string Describe(TemplateSizes sizes) => $"{sizes.Vcpus} vCPU, {sizes.MemoryMiB} MiB of memory and a disk of {sizes.DiskMiB} MiB";

    private static TemplateSizes SizesOf(MicroVmSpec spec) => new() { Vcpus = spec.Vcpus, MemoryMiB = spec.MemoryMiB, DiskMiB = spec.DiskMiB };
}
