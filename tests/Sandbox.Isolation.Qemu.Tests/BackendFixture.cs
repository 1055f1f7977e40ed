using Microsoft.Extensions.Logging.Abstractions;
using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Images;
using Sandbox.Isolation.TestSupport;
using Xunit;

namespace Sandbox.Isolation.Qemu.Tests;

/// <summary>A backend of its own for the tests, on the image that <c>./scripts/test</c> has built.</summary>
public sealed class BackendFixture : IAsyncDisposable
{
    private readonly string _directory = Directory.CreateTempSubdirectory("sandbox-qemu-").FullName;
    private int _next;

    public BackendFixture()
    {
        Image = new ImageStore(Environment.GetEnvironmentVariable("SANDBOX_IMAGE_ROOT") ?? ImageStore.DefaultRoot).FindCurrent("python")
            ?? throw new InvalidOperationException("There is no guest image; ./scripts/test builds it.");
        Options = new QemuOptions
        {
            HostId = "test-" + Guid.NewGuid().ToString("N")[..8],
            CacheDirectory = Path.Combine(_directory, "cache"),
            Accelerator = "tcg",
            Network = DocumentationServers.Options,
        };
        Backend = new QemuBackend(Options, NullLogger<QemuBackend>.Instance);
    }

    public string Image { get; }

    /// <summary>Golden snapshots that tests made for sizes of their own: a third of a gigabyte each.</summary>
    public HashSet<string> Goldens { get; } = [];

    public QemuOptions Options { get; }

    public QemuBackend Backend { get; }

    public MicroVmSpec Spec(int memoryMiB = 384, int diskMiB = 256)
    {
        var id = $"vm{Interlocked.Increment(ref _next)}";
        return new MicroVmSpec
        {
            Owner = new MicroVmOwner(id, "ses_" + id, 1),
            ImageDirectory = Image,
            Vcpus = 1,
            MemoryMiB = memoryMiB,
            DiskMiB = diskMiB,
            DiskPath = Path.Combine(_directory, "disks", id + ".img"),
            Hostname = "test-" + id,
        };
    }

    public async ValueTask DisposeAsync()
    {
        await Backend.DisposeAsync();
        foreach (var golden in Goldens.Where(Directory.Exists))
        {
            Directory.Delete(golden, recursive: true);
        }

        Directory.Delete(_directory, recursive: true);
        var runtime = Path.Combine(Options.RuntimeRoot, Options.HostId);
        if (Directory.Exists(runtime))
        {
            // Not recursive: a microVM that was left behind must be noticed.
            Directory.Delete(runtime);
        }
    }

    /// <summary>Makes a golden snapshot that is removed when the tests are over.</summary>
    public async Task<GoldenSnapshot> BuildGoldenAsync(TemplateSizes sizes)
    {
        var golden = await Backend.BuildGoldenAsync(Image, sizes, TestContext.Current.CancellationToken);
        lock (Goldens)
        {
            Goldens.Add(golden.Directory);
        }

        return golden;
    }
}
