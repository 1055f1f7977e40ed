using Microsoft.Extensions.Logging.Abstractions;
using Sandbox.Bench.Benches;
using Sandbox.Bench.Serving;
using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Images;
using Sandbox.Isolation.Qemu;

namespace Sandbox.Bench.Machines;

/// <summary>A QEMU backend of the bench's own, beside the server's: machines without sessions. Machines are disposed by whoever starts them.</summary>
internal sealed class OwnBackend : IAsyncDisposable
{
    private readonly string _hostId = "bench-" + Guid.NewGuid().ToString("N")[..8];
    private int _next;

    public OwnBackend(BenchContext context)
    {
        Directory = System.IO.Directory.CreateTempSubdirectory("sandbox-bench-").FullName;
        Image = context.Image;
        Sizes = TemplateImage.Load(Image).Sizes;
        Backend = new QemuBackend(
            new QemuOptions
            {
                HostId = _hostId,
                CacheDirectory = Path.Combine(Directory, "cache"),
                VerdictDirectory = Environment.IsPrivilegedProcess ? context.ImageRoot : null,
                RuntimeRoot = RuntimeDirectory.Root,
                Accelerator = context.Accelerator,
                ProbeImage = () => Image,
            },
            NullLogger<QemuBackend>.Instance);
        Runtime = new RuntimeDirectory(_hostId);
    }

    public QemuBackend Backend { get; }

    public RuntimeDirectory Runtime { get; }

    /// <summary>Where disks and states of the bench are; goes with it.</summary>
    public string Directory { get; }

    public string Image { get; }

    public TemplateSizes Sizes { get; }

    /// <summary>The golden snapshot, made if it is not there yet.</summary>
    public Task<GoldenSnapshot> GoldenAsync(CancellationToken cancellationToken) => Backend.BuildGoldenAsync(Image, Sizes, cancellationToken);

    /// <summary>What one machine is started with.</summary>
    public MicroVmSpec Spec(MachineRestore? restore = null)
    {
        var id = $"b{Interlocked.Increment(ref _next)}";
        return new MicroVmSpec
        {
            Owner = new MicroVmOwner(id, "ses_" + id, 1),
            ImageDirectory = Image,
            Vcpus = Sizes.Vcpus,
            MemoryMiB = Sizes.MemoryMiB,
            DiskMiB = Sizes.DiskMiB,
            DiskPath = Path.Combine(Directory, "disks", id + ".img"),
            Hostname = "bench",
            Restore = restore,
        };
    }

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        await Backend.DisposeAsync();
        System.IO.Directory.Delete(Directory, recursive: true);
        Runtime.RemoveIfEmpty();
    }
}
