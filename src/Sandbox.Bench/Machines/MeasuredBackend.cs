using System.Globalization;
using Microsoft.Extensions.Logging.Abstractions;
using Sandbox.Bench.Benches;
using Sandbox.Bench.Serving;
using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Guest;
using Sandbox.Isolation.Images;
using Sandbox.Isolation.Oci;
using Sandbox.Isolation.Qemu;
using Sandbox.Isolation.Wasm;

namespace Sandbox.Bench.Machines;

/// <summary>One of the backends for the length of a bench: its machines are without sessions, and gone with it.</summary>
internal sealed class MeasuredBackend : IAsyncDisposable
{
    private readonly string _directory = Directory.CreateTempSubdirectory("sandbox-bench-").FullName;
    private readonly string _hostId = "bench-" + Guid.NewGuid().ToString("N")[..8];
    private readonly string _image;
    private readonly TemplateSizes _sizes;
    private int _next;
    private IGuest? _contextOf;
    private string _context = "";

    private MeasuredBackend(string name, BenchContext context)
    {
        _image = new ImageStore(context.ImageRoot).FindCurrent(TemplateOf(name)) ?? throw new BenchException($"there is no image of template '{TemplateOf(name)}' in {context.ImageRoot}");
        _sizes = TemplateImage.Load(_image).Sizes;
        Backend = name switch
        {
            "qemu" => new QemuBackend(
                new QemuOptions
                {
                    HostId = _hostId,
                    CacheDirectory = Path.Combine(_directory, "cache"),
                    VerdictDirectory = Environment.IsPrivilegedProcess ? context.ImageRoot : null,
                    RuntimeRoot = RuntimeDirectory.Root,
                    Accelerator = context.Accelerator,
                    ProbeImage = () => _image,
                },
                NullLogger<QemuBackend>.Instance),
            "wasm" => new WasmBackend(
                new WasmOptions { HostId = _hostId, CacheDirectory = Path.Combine(_directory, "cache"), ImageRoot = context.ImageRoot, RuntimeRoot = RuntimeDirectory.Root }, NullLogger<WasmBackend>.Instance),
            _ => new OciBackend(
                name == "gvisor" ? OciTier.Gvisor : OciTier.HostKernel,
                new OciOptions { HostId = _hostId, CacheDirectory = Path.Combine(_directory, "cache"), RuntimeRoot = RuntimeDirectory.Root, ProbeImage = () => _image },
                NullLogger<OciBackend>.Instance),
        };
    }

    /// <summary>Backends that are measured where they work.</summary>
    public static IReadOnlyList<string> Names { get; } = ["qemu", "gvisor", "wasm", "oci"];

    public IIsolationBackend Backend { get; }

    /// <summary>Whether there is an image that it starts.</summary>
    public static bool HasImage(string name, BenchContext context) => new ImageStore(context.ImageRoot).FindCurrent(TemplateOf(name)) is not null;

    public static MeasuredBackend Make(string name, BenchContext context) => new(name, context);

    /// <summary>What a host does once for all its machines.</summary>
    public async Task PrepareAsync(CancellationToken cancellationToken)
    {
        if (Backend.Capabilities.GoldenSnapshot)
        {
            await Backend.BuildGoldenAsync(_image, _sizes, cancellationToken);
        }
    }

    /// <summary>What the next machine is started with.</summary>
    public MicroVmSpec Spec()
    {
        var id = $"b{Interlocked.Increment(ref _next)}";
        return new MicroVmSpec
        {
            Owner = new MicroVmOwner(id, "ses_" + id, 1),
            ImageDirectory = _image,
            Vcpus = _sizes.Vcpus,
            MemoryMiB = _sizes.MemoryMiB,
            DiskMiB = _sizes.DiskMiB,
            DiskPath = Path.Combine(_directory, "disks", id + ".img"),
            Hostname = "bench",
        };
    }

    /// <summary>Runs the least there is to run, and says when its first byte was there (ticks of <see cref="System.Diagnostics.Stopwatch"/>).</summary>
    public async Task<long> RunAsync(IGuest guest, CancellationToken cancellationToken)
    {
        if (Backend.Capabilities.Processes)
        {
            return await GuestRuns.RunAsync(guest, GuestRuns.Echo, null, cancellationToken);
        }

        if (!ReferenceEquals(guest, _contextOf))
        {
            (_contextOf, _context) = (guest, await GuestRuns.ContextAsync(guest, "javascript", cancellationToken));
        }

        return await GuestRuns.CodeAsync(guest, _context, "console.log('ok')", cancellationToken);
    }

    /// <summary>Proportional set size of a machine's own processes; <see langword="null"/> where it has none.</summary>
    public double? IdleMiB(string vmId)
    {
        var pids = Directory.Exists("/sys/fs/cgroup")
            ? ((string[])["", "memory", "cpu", "pids"]).SelectMany(c => (string[])[Path.Combine("/sys/fs/cgroup", c, "sandbox", _hostId, vmId), Path.Combine("/sys/fs/cgroup", c, "sandbox", $"{_hostId}-{Backend.Name}", vmId)])
                .Where(Directory.Exists)
                .SelectMany(d => Directory.EnumerateFiles(d, "cgroup.procs", SearchOption.AllDirectories))
                .SelectMany(File.ReadAllLines).Distinct().ToList()
            : [];
        return pids.Count == 0 ? null : pids.Sum(Pss);
    }

    public async ValueTask DisposeAsync()
    {
        if (Backend is IAsyncDisposable disposable)
        {
            await disposable.DisposeAsync();
        }

        Directory.Delete(_directory, recursive: true);

        // Some backends keep their machines a level deeper.
        new RuntimeDirectory(Path.Combine(_hostId, Backend.Name)).RemoveIfEmpty();
        new RuntimeDirectory(_hostId).RemoveIfEmpty();
        new RuntimeDirectory($"{_hostId}-{Backend.Name}").RemoveIfEmpty();
    }

    /// <summary>Template that a backend starts.</summary>
    public static string TemplateOf(string name) => name == "wasm" ? "wasm" : BenchContext.Template;

    private static double Pss(string pid)
    {
        try
        {
            var line = File.ReadLines($"/proc/{pid}/smaps_rollup").First(l => l.StartsWith("Pss:", StringComparison.Ordinal));
            return double.Parse(line.Split(' ', StringSplitOptions.RemoveEmptyEntries)[1], CultureInfo.InvariantCulture) / 1024;
        }
        catch (IOException)
        {
            // It has just ended.
            return 0;
        }
    }
}
