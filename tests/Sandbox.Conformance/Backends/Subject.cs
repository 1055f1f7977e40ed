using Sandbox.Guest.Protocol;
using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Images;

namespace Sandbox.Conformance.Backends;

/// <summary>
/// A backend under test: how it is made, and what the suites need to know of it. Machines that tests may share are kept here; one that a test has broken is replaced.
/// </summary>
public abstract class Subject : IAsyncDisposable
{
    private readonly Dictionary<string, IMicroVm> _kept = new(StringComparer.Ordinal);
    private IIsolationBackend? _backend;
    private int _next;

    /// <summary>The backend's name, as users write it.</summary>
    public abstract string Name { get; }

    /// <summary>Template that its machines are made from.</summary>
    public virtual string Template => "python";

    /// <summary>Languages of contexts.</summary>
    public virtual IReadOnlyList<string> Languages => ["python", "javascript", "bash"];

    /// <summary>Where its files are.</summary>
    public string Directory { get; } = System.IO.Directory.CreateTempSubdirectory("sandbox-conformance-").FullName;

    /// <summary>A host of its own, so that leftovers can be told from others'.</summary>
    public string HostId { get; } = "conf-" + Guid.NewGuid().ToString("N")[..8];

    /// <summary>Name under which its machines' cgroups and directories are.</summary>
    public virtual string TraceHost => HostId;

    public IIsolationBackend Backend => _backend ??= Create(HostId, Directory);

    public BackendCapabilities Can => Backend.Capabilities;

    /// <summary>Its verdict on this host.</summary>
    public BackendVerdict Verdict { get; private set; } = null!;

    /// <summary>What the suites find out, for the document.</summary>
    public Findings Findings { get; } = new();

    /// <summary>Directory of the image.</summary>
    public string Image => new ImageStore(Environment.GetEnvironmentVariable("SANDBOX_IMAGE_ROOT") ?? ImageStore.DefaultRoot).FindCurrent(Template)
        ?? throw new InvalidOperationException($"There is no image of template '{Template}'; ./scripts/test builds it.");

    /// <summary>Sizes of its machines.</summary>
    public virtual TemplateSizes Sizes { get; } = new() { Vcpus = 1, MemoryMiB = 512, DiskMiB = 256 };

    protected abstract IIsolationBackend Create(string hostId, string directory);

    public async Task PrepareAsync(CancellationToken cancellationToken)
    {
        Verdict = await Backend.ProbeAsync(cancellationToken);
        if (Verdict.Usable && Can.GoldenSnapshot)
        {
            Findings.GoldenDirectory = (await Backend.BuildGoldenAsync(Image, Sizes, cancellationToken)).Directory;
        }
    }

    /// <summary>What to start next: a machine of its own name, disk and owner.</summary>
    public MicroVmSpec Spec(string? restoreOf = null)
    {
        var id = $"vm{Interlocked.Increment(ref _next)}";
        return new MicroVmSpec
        {
            Owner = new MicroVmOwner(id, "ses_" + (restoreOf ?? id), 1),
            ImageDirectory = Image,
            Vcpus = Sizes.Vcpus,
            MemoryMiB = Sizes.MemoryMiB,
            DiskMiB = Sizes.DiskMiB,
            DiskPath = Path.Combine(Directory, "disks", id + ".img"),
            Hostname = "test-" + id,
        };
    }

    public Task<IMicroVm> StartAsync(CancellationToken cancellationToken) => Backend.StartAsync(Spec(), cancellationToken);

    /// <summary>A machine that tests share. Not to be disposed.</summary>
    /// <param name="role">Machines of different roles are different machines.</param>
    /// <param name="cancellationToken">Gives up.</param>
    public async Task<IMicroVm> SharedAsync(string role, CancellationToken cancellationToken)
    {
        if (_kept.TryGetValue(role, out var vm) && !vm.Exited.IsCompleted && !vm.Guest.Closed.IsCompleted)
        {
            return vm;
        }

        if (vm is not null)
        {
            await vm.DisposeAsync();
        }

        return _kept[role] = await StartAsync(cancellationToken);
    }

    /// <summary>A context on a machine.</summary>
    public static async Task<string> ContextAsync(IMicroVm vm, string language, CancellationToken cancellationToken)
    {
        var id = "c" + Guid.NewGuid().ToString("N")[..12];
        await vm.Guest.RequestAsync(new Request { CreateContext = new CreateContext { ContextId = id, Language = language } }, cancellationToken);
        return id;
    }

    /// <summary>Whether anything of a machine is still on the host, and what.</summary>
    public IReadOnlyList<string> Leftovers(string vmId) => HostTraces.Of(TraceHost, vmId, Directory);

    public async ValueTask DisposeAsync()
    {
        foreach (var vm in _kept.Values)
        {
            await vm.DisposeAsync();
        }

        if (_backend is IAsyncDisposable disposable)
        {
            await disposable.DisposeAsync();
        }

        if (Findings.GoldenDirectory is { } golden && System.IO.Directory.Exists(golden))
        {
            // Made for sizes that only these tests have.
            System.IO.Directory.Delete(golden, recursive: true);
        }

        System.IO.Directory.Delete(Directory, recursive: true);
        GC.SuppressFinalize(this);
    }
}
