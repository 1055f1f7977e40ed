using System.Collections.Concurrent;
using System.Diagnostics;
using Microsoft.Extensions.Logging;
using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Disks;
using Sandbox.Isolation.Hosting;
using Sandbox.Isolation.Images;
using Sandbox.Isolation.Network;
using Sandbox.Isolation.Oci.Hosting;
using Sandbox.Isolation.Oci.Machine;

namespace Sandbox.Isolation.Oci;

/// <summary>Containers from the same images as microVMs: on the host's kernel (runc, crun) or on gVisor's (runsc). See docs/oci.md.</summary>
public sealed partial class OciBackend : IIsolationBackend
{
    private readonly OciTier _tier;
    private readonly OciOptions _options;
    private readonly ILogger<OciBackend> _logger;
    private readonly ContainerCgroups _cgroups;
    private readonly UserIds _ids;
    private readonly DataDisk _disks;
    private readonly ImageRoots _roots;
    private readonly GuestNetworkPool? _networks;
    private readonly UserNamespaces _namespaces = new();
    private readonly string _hostRoot;
    private readonly string _checkpoints;
    private readonly ConcurrentDictionary<string, bool> _starting = new(StringComparer.Ordinal);

    /// <summary>Makes the backend. Nothing is started yet.</summary>
    public OciBackend(OciTier tier, OciOptions options, ILogger<OciBackend> logger)
    {
        ArgumentNullException.ThrowIfNull(options);
        (_tier, _options, _logger) = (tier, options, logger);

        // Beside what the hypervisors' backends of this host have: their reapers must not meet.
        var host = $"{options.HostId}-{Name}";
        _hostRoot = Path.Combine(options.RuntimeRoot, host);
        _checkpoints = Path.Combine(options.CacheDirectory, "checkpoints", host);
        _cgroups = new ContainerCgroups(host);
        _ids = new UserIds(Path.Combine(options.RuntimeRoot, "ranges"), options.FirstUserId, UserNamespaces.Size);
        _disks = new DataDisk(options.CacheDirectory);
        _roots = new ImageRoots(Path.Combine(options.CacheDirectory, "roots"), logger);

        // gVisor would take over the interface with raw sockets of the host's, or use the host's own stack: see docs/network.md.
        _networks = options.Network is { } network && tier == OciTier.HostKernel ? new GuestNetworkPool(_hostRoot, GuestInterfaceKind.Veth, network, logger) : null;
    }

    /// <inheritdoc/>
    public string Name => _tier == OciTier.Gvisor ? "gvisor" : "oci";

    /// <inheritdoc/>
    public BackendCapabilities Capabilities => _tier == OciTier.Gvisor
        ? new() { Boundary = TrustBoundary.UserSpaceKernel, MemorySnapshot = true, DiskSnapshot = true, Fork = true, WarmPool = true }
        : new() { Boundary = TrustBoundary.HostKernel, DiskSnapshot = true, Fork = true, WarmPool = true, Handover = DeviceHandover.Cdi, Network = _networks is { Available: true } };

    /// <summary>Begins the ids of this process's probe containers, which no lease names.</summary>
    private static string ProbePrefix { get; } = $"probe-{Environment.ProcessId}-";

    /// <inheritdoc/>
    public async Task<IMicroVm> StartAsync(MicroVmSpec spec, CancellationToken cancellationToken)
    {
        Check(spec);
        var host = await RequireUsableAsync(cancellationToken);
        if (spec.Restore is { } restore)
        {
            return await RestoreAsync(spec, restore, host, cancellationToken);
        }

        var clock = Stopwatch.StartNew();
        await _disks.EnsureAsync(spec.DiskPath, spec.DiskMiB, cancellationToken);
        var vm = await StartOnceAsync(host, spec, new ContainerOrigin { Fingerprint = FingerprintOf(host, spec.ImageDirectory, SizesOf(spec)) }, _options.StartDeadline, cancellationToken);
        vm.Report("boot", clock.Elapsed);
        return vm;
    }

    /// <inheritdoc/>
    public async Task<IMicroVm?> PrepareAsync(MicroVmSpec spec, CancellationToken cancellationToken)
    {
        Check(spec);
        if ((await UsableAsync(cancellationToken)).Host is null)
        {
            return null;
        }

        IMicroVm? vm = null;
        try
        {
            vm = await StartAsync(spec, cancellationToken);
            await ((OciMicroVm)vm).ParkAsync(cancellationToken);
            return vm;
        }
        catch (Exception e)
        {
            if (vm is not null)
            {
                await vm.DisposeAsync();
            }

            RemoveFile(spec.DiskPath);
            cancellationToken.ThrowIfCancellationRequested();
            throw new IsolationException($"Container {spec.Owner.VmId} could not be made ready for the warm pool: {e.Message}", e);
        }
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
            var vmId = Path.GetFileName(path)["vm-".Length..];
            var directory = new ContainerDirectory(_hostRoot, vmId);
            var record = directory.Load();
            var owner = record?.Owner ?? new MicroVmOwner(vmId, "", 0);
            if (IsInternal(vmId) || (record is not null && isLive(owner)))
            {
                kept.Add(vmId);
                continue;
            }

            // Its mounts, network and loop device go with its last process.
            var killed = await _cgroups.KillAsync(vmId);
            if (record?.Process is { IsRunning: true } first)
            {
                Kernel.Kill(first.Pid, 9);
                killed = true;
            }

            await _cgroups.RemoveAsync(vmId);
            if (record?.Network is { } network)
            {
                _networks?.Remove(network);
            }

            directory.Remove();
            reaped.Add(new ReapedMicroVm(owner, killed ? "processes, cgroup, directory" : "cgroup, directory"));
        }

        foreach (var vmId in _cgroups.List().Where(v => !kept.Contains(v) && !IsInternal(v) && !Directory.Exists(Path.Combine(_hostRoot, "vm-" + v))))
        {
            await _cgroups.KillAsync(vmId);
            await _cgroups.RemoveAsync(vmId);
            reaped.Add(new ReapedMicroVm(new MicroVmOwner(vmId, "", 0), "cgroup"));
        }

        foreach (var path in Directory.Exists(_checkpoints) ? Directory.GetDirectories(_checkpoints) : [])
        {
            var vmId = Path.GetFileName(path);
            if (!kept.Contains(vmId) && !IsInternal(vmId))
            {
                Directory.Delete(path, recursive: true);
                reaped.Add(new ReapedMicroVm(new MicroVmOwner(vmId, "", 0), "checkpoint"));
            }
        }

        foreach (var network in _networks?.RemoveLeftovers() ?? [])
        {
            _logger.LogInformation("Removed network {Network}, which a process that has ended left", network);
        }

        foreach (var root in _roots.RemoveUnused())
        {
            _logger.LogInformation("Removed {Directory}: its image is gone", root);
        }

        return reaped;
    }

    /// <summary>Containers that this backend itself holds, and that no lease names.</summary>
    private bool IsInternal(string vmId) => _starting.ContainsKey(vmId) || vmId.StartsWith(ProbePrefix, StringComparison.Ordinal);

    private async Task<OciMicroVm> StartOnceAsync(ContainerHost host, MicroVmSpec spec, ContainerOrigin origin, TimeSpan deadline, CancellationToken cancellationToken)
    {
        _starting[spec.Owner.VmId] = true;
        try
        {
            return await OciMicroVm.StartAsync(host, spec, origin, deadline, cancellationToken);
        }
        finally
        {
            _starting.TryRemove(spec.Owner.VmId, out _);
        }
    }

    private static TemplateSizes SizesOf(MicroVmSpec spec) => new() { Vcpus = spec.Vcpus, MemoryMiB = spec.MemoryMiB, DiskMiB = spec.DiskMiB };

    private static void Check(MicroVmSpec spec)
    {
        ArgumentNullException.ThrowIfNull(spec);
        if (spec is not { Vcpus: >= 1 and <= 32, MemoryMiB: >= 128 and <= 65536, DiskMiB: >= 64 and <= 1048576 })
        {
            throw new IsolationException($"Container {spec.Owner.VmId} asks for sizes out of range: vCPUs 1..32, memory 128..65536 MiB, disk 64..1048576 MiB.");
        }

        if (!File.Exists(Path.Combine(spec.ImageDirectory, TemplateImage.FileName)))
        {
            throw new IsolationException($"There is no finished image in {spec.ImageDirectory}; build it with: sandbox image build");
        }
    }
}
