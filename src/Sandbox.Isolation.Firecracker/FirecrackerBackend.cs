using System.Collections.Concurrent;
using System.Diagnostics;
using Microsoft.Extensions.Logging;
using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Disks;
using Sandbox.Isolation.Firecracker.Kernel;
using Sandbox.Isolation.Firecracker.Machine;
using Sandbox.Isolation.Firecracker.Memory;
using Sandbox.Isolation.Golden;
using Sandbox.Isolation.Hosting;
using Sandbox.Isolation.Images;

namespace Sandbox.Isolation.Firecracker;

/// <summary>MicroVMs by Firecracker, under KVM and nothing else. Built against its API specification; not verified on hardware. See docs/firecracker.md.</summary>
public sealed partial class FirecrackerBackend : IIsolationBackend
{
    private readonly FirecrackerOptions _options;
    private readonly ILogger<FirecrackerBackend> _logger;
    private readonly bool _isRoot;
    private readonly CgroupTree _cgroups;
    private readonly DataDisk _disks;
    private readonly GuestKernel _kernels;
    private readonly string _hostRoot;
    private readonly string _workRoot;
    private readonly string _cgroupHost;
    private readonly ConcurrentDictionary<string, bool> _own = new(StringComparer.Ordinal);
    private readonly Lazy<Task<Readiness>> _readiness;

    /// <summary>Makes the backend. Nothing is started yet.</summary>
    public FirecrackerBackend(FirecrackerOptions options, ILogger<FirecrackerBackend> logger)
    {
        ArgumentNullException.ThrowIfNull(options);
        (_options, _logger) = (options, logger);
        _isRoot = Environment.IsPrivilegedProcess;

        // Another backend of this host reaps what is below its own name.
        _cgroupHost = options.HostId + "-fc";
        _cgroups = new CgroupTree(_cgroupHost);
        _disks = new DataDisk(options.CacheDirectory);
        _kernels = new GuestKernel(options.CacheDirectory);
        _hostRoot = Path.Combine(options.RuntimeRoot, _cgroupHost);
        _workRoot = Path.Combine(options.CacheDirectory, "firecracker", options.HostId);
        _golden = new GoldenStore(logger);
        _shared = new SharedMemoryFiles(_workRoot);
        _readiness = new Lazy<Task<Readiness>>(() => ProbeOnceAsync(CancellationToken.None));
    }

    /// <inheritdoc/>
    public string Name => "firecracker";

    /// <inheritdoc/>
    public BackendCapabilities Capabilities { get; } = new()
    {
        Boundary = TrustBoundary.VirtualMachine,
        MemorySnapshot = true,
        DiskSnapshot = true,
        Fork = true,
        GoldenSnapshot = true,
        WarmPool = true,
    };

    /// <inheritdoc/>
    public async Task<BackendVerdict> ProbeAsync(CancellationToken cancellationToken) => (await _readiness.Value.WaitAsync(cancellationToken)).Verdict;

    /// <inheritdoc/>
    public async Task<IMicroVm> StartAsync(MicroVmSpec spec, CancellationToken cancellationToken)
    {
        Check(spec);
        var host = await RequireUsableAsync(cancellationToken);
        if (spec.Restore is { } restore)
        {
            return await RestoreAsync(host, spec, restore, cancellationToken);
        }

        var clock = Stopwatch.StartNew();
        if (await TryCloneAsync(host, spec, clock, cancellationToken) is { } clone)
        {
            return clone;
        }

        var vm = await BootAsync(host, spec, FactsOf(FingerprintOf(host, spec.ImageDirectory, SizesOf(spec)), null, SizesOf(spec)), _options.BootDeadline, cancellationToken);
        vm.Report("boot", clock.Elapsed);
        return vm;
    }

    /// <inheritdoc/>
    public async Task<IReadOnlyList<ReapedMicroVm>> ReapAsync(Func<MicroVmOwner, bool> isLive, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(isLive);
        var reaped = new List<ReapedMicroVm>();
        var kept = new HashSet<string>(StringComparer.Ordinal);
        foreach (var path in Directory.Exists(_hostRoot) ? Directory.GetDirectories(_hostRoot, "vm-*") : [])
        {
            cancellationToken.ThrowIfCancellationRequested();
            var directory = DirectoryOf(Path.GetFileName(path)["vm-".Length..]);
            var vmId = Path.GetFileName(path)["vm-".Length..];
            var record = directory.Load();
            var owner = record?.Owner ?? new MicroVmOwner(vmId, "", 0);

            // One that this process is making may not have its record yet.
            if (_own.ContainsKey(vmId) || (record is not null && isLive(owner)))
            {
                kept.Add(vmId);
                continue;
            }

            var killed = await _cgroups.KillAsync(vmId, record?.Process);
            directory.RemoveAll();
            reaped.Add(new ReapedMicroVm(owner, killed ? "process, cgroup, directories" : "cgroup, directories"));
        }

        foreach (var vmId in _cgroups.List().Where(v => !kept.Contains(v) && !_own.ContainsKey(v) && !Directory.Exists(DirectoryOf(v).DirectoryPath)))
        {
            await _cgroups.KillAsync(vmId, null);
            reaped.Add(new ReapedMicroVm(new MicroVmOwner(vmId, "", 0), "cgroup"));
        }

        // Made after the record and removed before it, so one without a record is nobody's.
        foreach (var path in Directory.Exists(_workRoot) ? Directory.GetDirectories(_workRoot) : [])
        {
            var vmId = Path.GetFileName(path);
            if (!kept.Contains(vmId) && !_own.ContainsKey(vmId) && !Directory.Exists(DirectoryOf(vmId).DirectoryPath))
            {
                Directory.Delete(path, recursive: true);
                reaped.Add(new ReapedMicroVm(new MicroVmOwner(vmId, "", 0), "directory"));
            }
        }

        reaped.AddRange(_shared.RemoveStrangers().Select(f => new ReapedMicroVm(new MicroVmOwner(f, "", 0), "memory file")));
        return reaped;
    }

    private FirecrackerDirectory DirectoryOf(string vmId) => new(_hostRoot, _workRoot, vmId, Path.GetFileName(_options.Binary));

    private async Task<FirecrackerHost> RequireUsableAsync(CancellationToken cancellationToken)
    {
        var readiness = await _readiness.Value.WaitAsync(cancellationToken);
        return readiness is { Verdict.Usable: true, Host: { } host } ? host : throw new IsolationException($"Firecracker is not usable on this host: {readiness.Verdict.Reason}");
    }

    private async Task<FirecrackerMicroVm> BootAsync(FirecrackerHost host, MicroVmSpec spec, MachineFacts? facts, TimeSpan deadline, CancellationToken cancellationToken)
    {
        var kernel = await _kernels.EnsureAsync(spec.ImageDirectory, cancellationToken);
        await _disks.EnsureAsync(spec.DiskPath, spec.DiskMiB, cancellationToken);
        return await StartOnceAsync(host, spec, kernel, new MachineOrigin { Facts = facts }, deadline, cancellationToken);
    }

    private async Task<FirecrackerMicroVm> StartOnceAsync(
        FirecrackerHost host, MicroVmSpec spec, string kernel, MachineOrigin origin, TimeSpan deadline, CancellationToken cancellationToken)
    {
        var alone = _own.TryAdd(spec.Owner.VmId, true);
        try
        {
            return await FirecrackerMicroVm.StartAsync(host, spec, kernel, origin, deadline, _logger, cancellationToken);
        }
        finally
        {
            if (alone)
            {
                _own.TryRemove(spec.Owner.VmId, out _);
            }
        }
    }

    private async Task<Readiness> ProbeOnceAsync(CancellationToken cancellationToken)
    {
        List<string> warnings = [FirecrackerProbe.NotVerified];
        var probe = new FirecrackerProbe(_options, _isRoot, _logger);
        var (version, reason) = await probe.FindAsync(cancellationToken);
        if (version is null)
        {
            return new Readiness(new BackendVerdict(false, "", reason, "", warnings), null);
        }

        if (_cgroups.Problem is { } problem)
        {
            warnings.Add(problem);
        }

        var jailed = _isRoot && !_options.AllowUnjailed;
        if (!jailed)
        {
            warnings.Add("Firecracker runs without its jailer, as this program's own user: its own system call filter is all that confines it. Run the server as root, with the jailer installed.");
        }

        var users = jailed ? new UserIds(Path.Combine(_options.RuntimeRoot, "users"), _options.FirstUserId) : null;
        var host = new FirecrackerHost(_options, version, _hostRoot, _workRoot, _cgroups, "sandbox/" + _cgroupHost, users, HoleProbe.Knows(_options.CacheDirectory));
        _own[FirecrackerProbe.OwnId] = true;
        try
        {
            var (usable, why) = await probe.TryAsync(version, async (spec, ct) => await BootAsync(host, spec, null, _options.KvmProbeDeadline, ct), cancellationToken);
            return new Readiness(new BackendVerdict(usable, usable ? "kvm" : "", usable ? $"KVM: {why}" : why, $"Firecracker {version}", warnings), host);
        }
        finally
        {
            _own.TryRemove(FirecrackerProbe.OwnId, out _);
        }
    }

    private static void Check(MicroVmSpec spec)
    {
        ArgumentNullException.ThrowIfNull(spec);
        if (spec is not { Vcpus: >= 1 and <= 32, MemoryMiB: >= 128 and <= 65536, DiskMiB: >= 64 and <= 1048576 })
        {
            throw new IsolationException($"MicroVM {spec.Owner.VmId} asks for sizes out of range: vCPUs 1..32, memory 128..65536 MiB, disk 64..1048576 MiB.");
        }

        if (!File.Exists(Path.Combine(spec.ImageDirectory, TemplateImage.FileName)))
        {
            throw new IsolationException($"There is no finished image in {spec.ImageDirectory}; build it with: sandbox image build");
        }
    }

    private static TemplateSizes SizesOf(MicroVmSpec spec) => new() { Vcpus = spec.Vcpus, MemoryMiB = spec.MemoryMiB, DiskMiB = spec.DiskMiB };

    private sealed record Readiness(BackendVerdict Verdict, FirecrackerHost? Host);
}
