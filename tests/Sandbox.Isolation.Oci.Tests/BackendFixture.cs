using System.Collections.Concurrent;
using Microsoft.Extensions.Logging.Abstractions;
using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Images;
using Sandbox.Isolation.TestSupport;

namespace Sandbox.Isolation.Oci.Tests;

/// <summary>Both backends for the tests, on the image that <c>./scripts/test</c> has built.</summary>
public sealed class BackendFixture : IAsyncDisposable
{
    private readonly string _directory = Directory.CreateTempSubdirectory("sandbox-oci-").FullName;
    private readonly ConcurrentBag<OciBackend> _made = [];
    private int _next;

    public BackendFixture()
    {
        Image = new ImageStore(Environment.GetEnvironmentVariable("SANDBOX_IMAGE_ROOT") ?? ImageStore.DefaultRoot).FindCurrent("python")
            ?? throw new InvalidOperationException("There is no guest image; ./scripts/test builds it.");
        Options = new OciOptions
        {
            HostId = "test-" + Guid.NewGuid().ToString("N")[..8],
            CacheDirectory = Path.Combine(_directory, "cache"),
            ProbeImage = () => Image,
            Network = DocumentationServers.Options,
        };
        Runc = Make(OciTier.HostKernel);
        Runsc = Make(OciTier.Gvisor);
    }

    public string Image { get; }

    public OciOptions Options { get; }

    public OciBackend Runc { get; }

    public OciBackend Runsc { get; }

    public string ImageRoots => Path.Combine(Options.CacheDirectory, "roots");

    /// <summary>Another backend of the same host.</summary>
    public OciBackend Make(OciTier tier, Func<OciOptions, OciOptions>? change = null)
    {
        var backend = new OciBackend(tier, change is null ? Options : change(Options), NullLogger<OciBackend>.Instance);
        _made.Add(backend);
        return backend;
    }

    public OciBackend Of(OciTier tier) => tier == OciTier.Gvisor ? Runsc : Runc;

    /// <summary>Where a backend keeps its containers.</summary>
    public string HostRoot(OciTier tier) => Path.Combine(Options.RuntimeRoot, HostIdOf(tier));

    /// <summary>The backend's name goes behind the host's.</summary>
    private string HostIdOf(OciTier tier) => Options.HostId + (tier == OciTier.Gvisor ? "-gvisor" : "-oci");

    public string DirectoryOf(OciTier tier, MicroVmSpec spec) => Path.Combine(HostRoot(tier), "vm-" + spec.Owner.VmId);

    public string[] CgroupsOf(OciTier tier, string vmId) =>
        [.. Directory.GetDirectories("/sys/fs/cgroup").Append("/sys/fs/cgroup").Select(c => Path.Combine(c, "sandbox", HostIdOf(tier), vmId)).Where(Directory.Exists)];

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
        foreach (var backend in _made)
        {
            await backend.DisposeAsync();
        }

        Directory.Delete(_directory, recursive: true);
        foreach (var runtime in ((OciTier[])[OciTier.HostKernel, OciTier.Gvisor]).Select(HostRoot).Where(Directory.Exists))
        {
            // Not recursive: a container that was left behind must be noticed.
            Directory.Delete(runtime);
        }

        foreach (var group in Directory.GetDirectories("/sys/fs/cgroup").Append("/sys/fs/cgroup").Select(c => Path.Combine(c, "sandbox")).Where(Directory.Exists).SelectMany(d => Directory.GetDirectories(d, Options.HostId + "-*")))
        {
            Directory.Delete(group);
        }
    }
}
