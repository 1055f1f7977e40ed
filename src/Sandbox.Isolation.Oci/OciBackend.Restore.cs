using System.Diagnostics;
using System.Globalization;
using System.Security.Cryptography;
using System.Text;
using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Disks;
using Sandbox.Isolation.Guest;
using Sandbox.Isolation.Hosting;
using Sandbox.Isolation.Images;
using Sandbox.Isolation.Oci.Machine;

namespace Sandbox.Isolation.Oci;

// Saved machines: whether they fit, and bringing them back.
public sealed partial class OciBackend
{
    /// <summary>Raised when what a container is made of, or how one is saved, changes.</summary>
    private const int Format = 1;

    /// <inheritdoc/>
    public async Task<RestoreFit> FitAsync(string imageDirectory, TemplateSizes sizes, MachineFacts facts, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(sizes);
        ArgumentNullException.ThrowIfNull(facts);
        var (_, host) = await UsableAsync(cancellationToken);
        return host is not null && File.Exists(Path.Combine(imageDirectory, TemplateImage.FileName)) && Mismatch(host, imageDirectory, sizes, facts) is null ? RestoreFit.Ready : RestoreFit.Foreign;
    }

    /// <summary>Brings a saved machine back, whole or not at all: under gVisor as it was, else anew on its disk.</summary>
    private async Task<IMicroVm> RestoreAsync(MicroVmSpec spec, MachineRestore restore, ContainerHost host, CancellationToken cancellationToken)
    {
        var clock = Stopwatch.StartNew();
        var (source, sizes) = (restore.Source, SizesOf(spec));
        if (Mismatch(host, spec.ImageDirectory, sizes, source.Facts) is { } mismatch)
        {
            throw new IsolationException($"Container {spec.Owner.VmId} cannot be restored here: {mismatch}.");
        }

        using var limit = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        limit.CancelAfter(_options.RestoreDeadline);
        var partial = spec.DiskPath + DataDisk.Partial;
        var checkpoint = Path.Combine(_checkpoints, spec.Owner.VmId);

        // The reaper must not take what is being read for a leftover.
        _starting[spec.Owner.VmId] = true;
        try
        {
            var origin = new ContainerOrigin { Fingerprint = source.Facts.Fingerprint, DiskPath = partial, Executions = restore.Executions };
            await ReadDiskAsync(source, spec.DiskPath, partial, limit.Token);
            if (host.Runtime.IsGvisor)
            {
                RemoveDirectory(checkpoint);
                var table = await SourceRules.DevicesOfAsync(source, limit.Token);
                await Task.Run(() => CheckpointFiles.ReadAsync(checkpoint, table, source, limit.Token), limit.Token);
                origin = origin with { Checkpoint = checkpoint, Memo = GuestMemo.Decode(await source.ReadGuestAsync(limit.Token)) };
            }

            var vm = await StartOnceAsync(host, spec, origin, _options.RestoreDeadline, limit.Token);
            try
            {
                // The last thing: a disk that was there before stays if anything fails.
                vm.PlaceDisk(spec.DiskPath);
            }
            catch
            {
                await vm.DisposeAsync();
                throw;
            }

            vm.Report("restore", clock.Elapsed);
            return vm;
        }
        catch (OperationCanceledException e) when (!cancellationToken.IsCancellationRequested)
        {
            throw new IsolationException($"Container {spec.Owner.VmId} could not be restored within {_options.RestoreDeadline.TotalSeconds:0} s.", e);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or InvalidDataException)
        {
            throw new IsolationException($"Container {spec.Owner.VmId} could not be restored: {e.Message}", e);
        }
        finally
        {
            RemoveDirectory(checkpoint);
            RemoveFile(partial);
            _starting.TryRemove(spec.Owner.VmId, out _);
        }
    }

    private static Task ReadDiskAsync(IMachineSource source, string diskPath, string partial, CancellationToken cancellationToken) => Task.Run(
        async () =>
        {
            Directory.CreateDirectory(Path.GetDirectoryName(diskPath)!);
            File.Delete(partial);
            using var disk = File.OpenHandle(partial, FileMode.CreateNew, FileAccess.ReadWrite);
            File.SetUnixFileMode(disk, UnixFileMode.UserRead | UnixFileMode.UserWrite);
            DataDisk.Begin(disk, null, source.Facts.DiskBytes);
            await foreach (var block in SourceRules.DiskOf(source, cancellationToken))
            {
                if (!block.Data.IsEmpty)
                {
                    RandomAccess.Write(disk, block.Data.Span, block.Index * MachineBlock.DiskBlock);
                }
            }
        },
        cancellationToken);

    /// <summary>
    /// Names what a saved container depends on. Of one of which only the disk is kept that is the image below it; gVisor's memory needs the same gVisor, sizes, and a processor that has what its programs
    /// have found.
    /// </summary>
    private static string FingerprintOf(ContainerHost host, string imageDirectory, TemplateSizes sizes)
    {
        var image = TemplateImage.Load(imageDirectory);
        var text = new StringBuilder().Append(
            CultureInfo.InvariantCulture, $"container {Format}\n{image.Template} {image.Version} {image.BuiltAt.UtcTicks} {new FileInfo(Path.Combine(imageDirectory, image.Root)).Length}\n{sizes.DiskMiB}\n");
        if (host.Runtime.IsGvisor)
        {
            text.Append(CultureInfo.InvariantCulture, $"{host.Runtime.Version}\n{sizes.Vcpus} {sizes.MemoryMiB}\n{HostProcessor.Description}");
        }

        return Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(text.ToString())).AsSpan(0, 8));
    }

    /// <summary>What does not fit, for people; <see langword="null"/> where all does.</summary>
    private string? Mismatch(ContainerHost host, string imageDirectory, TemplateSizes sizes, MachineFacts facts)
    {
        if (facts.Backend != Name)
        {
            return $"it was saved by backend '{facts.Backend}'";
        }

        var fingerprint = FingerprintOf(host, imageDirectory, sizes);
        return facts.DiskBytes != (long)sizes.DiskMiB << 20 ? $"its disk has {facts.DiskBytes >> 20} MiB, not {sizes.DiskMiB}"
            : facts.Fingerprint != fingerprint || facts.GoldenId is not null ? $"runtime, processor, image or sizes are others than where it was saved (fingerprint {facts.Fingerprint}, here {fingerprint})"
            : null;
    }

    private static void RemoveFile(string path)
    {
        if (File.Exists(path))
        {
            File.Delete(path);
        }
    }

    private static void RemoveDirectory(string path)
    {
        if (Directory.Exists(path))
        {
            Directory.Delete(path, recursive: true);
        }
    }
}
