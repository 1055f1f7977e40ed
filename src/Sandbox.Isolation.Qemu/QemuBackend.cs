using System.Collections.Concurrent;
using System.Diagnostics;
using Microsoft.Extensions.Logging;
using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Disks;
using Sandbox.Isolation.Golden;
using Sandbox.Isolation.Hosting;
using Sandbox.Isolation.Images;
using Sandbox.Isolation.Network;
using Sandbox.Isolation.Qemu.Machine;

namespace Sandbox.Isolation.Qemu;

/// <summary>MicroVMs by QEMU: KVM where it works, emulation (TCG) where it does not, said aloud. See docs/qemu.md.</summary>
public sealed partial class QemuBackend : IIsolationBackend, IAsyncDisposable
{
    private const string TcgWarning =
        "microVMs run under emulation (TCG): it isolates functionally, but QEMU's developers do not treat it as a security boundary. Use a host with KVM for untrusted code in production.";

    private readonly QemuOptions _options;
    private readonly ILogger<QemuBackend> _logger;
    private readonly CgroupTree _cgroups;
    private readonly UserIds? _users;
    private readonly GuestNetworkPool? _networks;
    private readonly DataDisk _disks;
    private readonly HostClock _hostClock;
    private readonly string _hostRoot;
    private readonly ConcurrentDictionary<string, bool> _starting = new(StringComparer.Ordinal);
    private readonly Lazy<Task<BackendVerdict>> _verdict;

    /// <summary>Makes the backend. Nothing is started yet.</summary>
    public QemuBackend(QemuOptions options, ILogger<QemuBackend> logger)
    {
        ArgumentNullException.ThrowIfNull(options);
        (_options, _logger) = (options, logger);
        _cgroups = new CgroupTree(options.HostId);
        _users = Environment.IsPrivilegedProcess ? new UserIds(Path.Combine(options.RuntimeRoot, "users"), options.FirstUserId) : null;
        _disks = new DataDisk(options.CacheDirectory);
        _hostClock = new HostClock(options.VerdictDirectory ?? options.CacheDirectory);
        _hostRoot = Path.Combine(options.RuntimeRoot, options.HostId);
        _networks = options.Network is { } network ? new GuestNetworkPool(_hostRoot, GuestInterfaceKind.Tap, network, logger) : null;
        _golden = new GoldenStore(logger);
        _verdict = new Lazy<Task<BackendVerdict>>(() => ProbeOnceAsync(CancellationToken.None));
    }

    /// <inheritdoc/>
    public string Name => "qemu";

    /// <inheritdoc/>
    public BackendCapabilities Capabilities => field ??= new()
    {
        Network = HasNetwork,
        Boundary = TrustBoundary.VirtualMachine,
        MemorySnapshot = true,
        DiskSnapshot = true,
        Fork = true,
        GoldenSnapshot = true,
        WarmPool = true,
        Handover = DeviceHandover.Vfio,
    };

    /// <inheritdoc/>
    public Task<BackendVerdict> ProbeAsync(CancellationToken cancellationToken) => _verdict.Value.WaitAsync(cancellationToken);

    /// <inheritdoc/>
    public async Task<IMicroVm> StartAsync(MicroVmSpec spec, CancellationToken cancellationToken)
    {
        Check(spec);
        var verdict = await RequireUsableAsync(cancellationToken);
        if (spec.Restore is { } restore)
        {
            if (spec.Devices.Count > 0)
            {
                throw new IsolationException($"MicroVM {spec.Owner.VmId} cannot be restored with devices ({string.Join(", ", spec.Devices.Select(d => d.Address))}): what was saved knows of none.");
            }

            return await RestoreAsync(spec, restore, verdict, cancellationToken);
        }

        var clock = Stopwatch.StartNew();
        if (spec.Devices.Count == 0 && await TryCloneAsync(spec, verdict, clock, cancellationToken) is { } clone)
        {
            return clone;
        }

        await _disks.EnsureAsync(spec.DiskPath, spec.DiskMiB, cancellationToken);
        var sizes = SizesOf(spec);
        // What is in a device cannot be saved, and QEMU refuses to save a machine that has one.
        var origin = new MachineOrigin { Facts = spec.Devices.Count > 0 ? null : FactsOf(FingerprintOf(verdict, spec.ImageDirectory, sizes), null, sizes) };
        for (var attempt = 1; ; attempt++)
        {
            try
            {
                var vm = await StartOnceAsync(spec, verdict.Accelerator, origin, _options.BootDeadline, cancellationToken);
                vm.Report("boot", verdict.Accelerator, attempt, clock.Elapsed);
                return vm;
            }
            catch (IsolationException e) when (attempt == 1 && !cancellationToken.IsCancellationRequested)
            {
                // A boot under emulation hangs once in a long while whatever the recipe; twice in a row means something else.
                _logger.LogWarning(e, "MicroVM {VmId} did not boot; trying once more", spec.Owner.VmId);
            }
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
            var directory = new QemuDirectory(_hostRoot, vmId);
            if (IsInternal(vmId))
            {
                // Ours, and not yet anybody's: its record may not be written yet.
                kept.Add(vmId);
                continue;
            }

            var record = directory.Load();
            var owner = record?.Owner ?? new MicroVmOwner(vmId, "", 0);
            if (record is not null && isLive(owner))
            {
                kept.Add(vmId);
                continue;
            }

            var killed = await _cgroups.KillAsync(vmId, record?.Process);
            if (record?.Network is { } network)
            {
                _networks?.Remove(network);
            }

            directory.Remove();
            reaped.Add(new ReapedMicroVm(owner, killed ? "process, cgroup, directory" : "cgroup, directory"));
        }

        foreach (var vmId in _cgroups.List().Where(v => !kept.Contains(v) && !IsInternal(v) && !Directory.Exists(new QemuDirectory(_hostRoot, v).DirectoryPath)))
        {
            await _cgroups.KillAsync(vmId, null);
            reaped.Add(new ReapedMicroVm(new MicroVmOwner(vmId, "", 0), "cgroup"));
        }

        // Those that were ready, and those of machines whose record was lost.
        foreach (var network in _networks?.RemoveLeftovers() ?? [])
        {
            _logger.LogInformation("Removed network {Network}, which a process that has ended left", network);
        }

        return reaped;
    }

    /// <summary>Removes what is kept ready for machines. They themselves are disposed by whoever has them.</summary>
    public async ValueTask DisposeAsync()
    {
        await _sharing.DisposeAsync();
        await (_networks?.DisposeAsync() ?? ValueTask.CompletedTask);
    }

    /// <summary>Every machine of a host that can have networks has one: what a saved machine fits is one thing or the other.</summary>
    private bool HasNetwork => _networks is { Available: true };

    /// <summary>Machines that this backend itself holds, and that no lease names.</summary>
    private bool IsInternal(string vmId) => _starting.ContainsKey(vmId) || _saving.ContainsKey(vmId) || vmId == KvmProbe.OwnId;

    private async Task<BackendVerdict> RequireUsableAsync(CancellationToken cancellationToken)
    {
        var verdict = await ProbeAsync(cancellationToken);
        return verdict.Usable ? verdict : throw new IsolationException($"QEMU is not usable on this host: {verdict.Reason}");
    }

    private async Task<QemuMicroVm> StartOnceAsync(MicroVmSpec spec, string accelerator, MachineOrigin origin, TimeSpan deadline, CancellationToken cancellationToken)
    {
        _starting[spec.Owner.VmId] = true;
        GuestNetwork? network = null;
        try
        {
            network = HasNetwork ? await _networks!.TakeAsync(cancellationToken) : null;
            return await QemuMicroVm.StartAsync(_options, spec, accelerator, _hostClock.TscKhz, _hostRoot, _cgroups, _users, network, origin, deadline, _logger, cancellationToken);
        }
        catch when (network is not null)
        {
            await network.DisposeAsync();
            throw;
        }
        finally
        {
            _starting.TryRemove(spec.Owner.VmId, out _);
        }
    }

    private async Task<BackendVerdict> ProbeOnceAsync(CancellationToken cancellationToken)
    {
        if (!File.Exists(_options.Binary))
        {
            return new BackendVerdict(false, "", $"there is no {_options.Binary}; apt-get install qemu-system-x86", "", []);
        }

        var version = await VersionAsync(cancellationToken);
        var warnings = new List<string>();
        if (_cgroups.Problem is { } problem)
        {
            warnings.Add(problem);
        }

        if (_users is null)
        {
            warnings.Add("the server does not run as root: microVMs run as its own user and are not confined by user id or network namespace");
        }

        if (_networks is not null && await _networks.FindProblemAsync() is { } noNetwork)
        {
            warnings.Add(noNetwork);
        }

        var (kvm, reason) = _options.Accelerator == "tcg"
            ? (false, "emulation was asked for")
            : await new KvmProbe(_options, version, _logger).RunAsync(StartUnderKvmAsync, cancellationToken);
        if (_options.Accelerator == "kvm" && !kvm)
        {
            return new BackendVerdict(false, "", $"KVM was asked for and is not usable: {reason}", version, warnings);
        }

        if (!kvm)
        {
            warnings.Add(TcgWarning);
        }

        return new BackendVerdict(true, kvm ? "kvm" : "tcg", kvm ? $"KVM: {reason}" : $"emulation (TCG), because KVM is not usable: {reason}", version, warnings);
    }

    private async Task<IMicroVm> StartUnderKvmAsync(MicroVmSpec spec, CancellationToken cancellationToken)
    {
        await _disks.EnsureAsync(spec.DiskPath, spec.DiskMiB, cancellationToken);
        return await StartOnceAsync(spec, "kvm", new MachineOrigin { Facts = null }, _options.KvmProbeDeadline, cancellationToken);
    }

    private async Task<string> VersionAsync(CancellationToken cancellationToken)
    {
        using var process = Process.Start(new ProcessStartInfo(_options.Binary, ["--version"]) { RedirectStandardOutput = true })!;
        var text = await process.StandardOutput.ReadToEndAsync(cancellationToken);
        await process.WaitForExitAsync(cancellationToken);
        return text.Split('\n')[0].Replace("QEMU emulator version", "QEMU", StringComparison.Ordinal).Trim();
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
}
