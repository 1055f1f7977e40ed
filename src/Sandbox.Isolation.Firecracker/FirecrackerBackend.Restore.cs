using System.Diagnostics;
using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Firecracker.Machine;
using Sandbox.Isolation.Firecracker.Memory;
using Sandbox.Isolation.Golden;
using Sandbox.Isolation.Guest;
using Sandbox.Isolation.Images;

namespace Sandbox.Isolation.Firecracker;

// Saved machines: whether they fit, bringing them back, and the golden snapshots of other hosts that they are differences from.
public sealed partial class FirecrackerBackend
{
    private readonly SharedMemoryFiles _shared;

    /// <inheritdoc/>
    public async Task<RestoreFit> FitAsync(string imageDirectory, TemplateSizes sizes, MachineFacts facts, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(sizes);
        ArgumentNullException.ThrowIfNull(facts);
        var readiness = await _readiness.Value.WaitAsync(cancellationToken);
        if (readiness is not { Verdict.Usable: true, Host: { } host } || !File.Exists(Path.Combine(imageDirectory, TemplateImage.FileName)) || Mismatch(host, imageDirectory, sizes, facts) is not null)
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

        var host = await RequireUsableAsync(cancellationToken);
        var mismatch = Mismatch(host, imageDirectory, sizes, source.Facts) ?? (source.Facts.GoldenId is null ? null : "it is itself a difference from another");
        if (mismatch is not null)
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
    private async Task<IMicroVm> RestoreAsync(FirecrackerHost host, MicroVmSpec spec, MachineRestore restore, CancellationToken cancellationToken)
    {
        var clock = Stopwatch.StartNew();
        var facts = restore.Source.Facts;
        if (Mismatch(host, spec.ImageDirectory, SizesOf(spec), facts) is { } mismatch)
        {
            throw new IsolationException($"MicroVM {spec.Owner.VmId} cannot be restored here: {mismatch}.");
        }

        var golden = facts.GoldenId is not { } goldenId ? null
            : _golden.Find(spec.ImageDirectory, facts.Fingerprint, goldenId)
                ?? throw new IsolationException($"MicroVM {spec.Owner.VmId} cannot be restored yet: its golden snapshot {goldenId} is not on this host; import it first.");
        try
        {
            // All of it is read, and so verified, before the machine runs.
            var state = await SourceRules.DevicesOfAsync(restore.Source, cancellationToken);
            var memo = GuestMemo.Decode(await restore.Source.ReadGuestAsync(cancellationToken));
            using var disk = await RestoredDisk.WriteAsync(spec.DiskPath, golden, restore.Source, cancellationToken);
            var origin = new MachineOrigin
            {
                Facts = facts,
                Golden = golden,
                Memory = await RestoreMemoryAsync(spec, restore, golden, cancellationToken),
                State = state,
                DiskPath = disk.PartialPath,
                Memo = memo,
                Executions = restore.Executions,
            };
            var vm = await StartOnceAsync(host, spec, "", origin, _options.RestoreDeadline, cancellationToken);
            try
            {
                // The last thing: a disk that was there before stays if anything fails.
                disk.Place();
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                await vm.DisposeAsync();
                throw new IsolationException($"MicroVM {spec.Owner.VmId} could not be restored: its disk cannot be put in place: {e.Message}", e);
            }

            vm.Report("restore", clock.Elapsed);
            return vm;
        }
        catch (Exception e) when (e is not (IsolationException or OperationCanceledException) || (e is OperationCanceledException && !cancellationToken.IsCancellationRequested))
        {
            throw new IsolationException($"MicroVM {spec.Owner.VmId} could not be restored: {e.Message}", e);
        }
    }

    /// <summary>A file of its own, or the one that all share which are restored from the same state.</summary>
    private Task<MemoryFile> RestoreMemoryAsync(MicroVmSpec spec, MachineRestore restore, GoldenSnapshot? golden, CancellationToken cancellationToken)
    {
        var name = restore is { StateName: { } state, Siblings: > 1 } ? $"{restore.Source.Facts.GoldenId}/{state}" : $"alone/{spec.Owner.VmId}/{Guid.NewGuid():N}";
        return _shared.RentAsync(name, path => Task.Run(() => MemoryFile.WriteAsync(path, golden, restore.Source, cancellationToken), cancellationToken), cancellationToken);
    }

    private MachineFacts FactsOf(string fingerprint, string? goldenId, TemplateSizes sizes) =>
        new(Name, fingerprint, goldenId, (long)sizes.MemoryMiB << 20, (long)sizes.DiskMiB << 20);

    /// <summary>What does not fit, for people; <see langword="null"/> where all does.</summary>
    private string? Mismatch(FirecrackerHost host, string imageDirectory, TemplateSizes sizes, MachineFacts facts)
    {
        if (facts.Backend != Name)
        {
            return $"it was saved by backend '{facts.Backend}'";
        }

        var fingerprint = FingerprintOf(host, imageDirectory, sizes);
        var here = FactsOf(fingerprint, facts.GoldenId, sizes);
        return facts == here ? null
            : facts.MemoryBytes != here.MemoryBytes || facts.DiskBytes != here.DiskBytes ? $"it has {facts.MemoryBytes >> 20} MiB of memory and a disk of {facts.DiskBytes >> 20} MiB, not {Describe(sizes)}"
            : $"Firecracker, host kernel, processor, image or sizes are others than where it was saved (fingerprint {facts.Fingerprint}, here {fingerprint})";
    }

    private static string Describe(TemplateSizes sizes) => $"{sizes.Vcpus} vCPU, {sizes.MemoryMiB} MiB of memory and a disk of {sizes.DiskMiB} MiB";
}
