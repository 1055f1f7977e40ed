using Microsoft.Extensions.Logging;
using Sandbox.Abstractions;
using Sandbox.Grains.Scheduling;
using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Devices;
using Sandbox.Isolation.Devices.Cdi;

namespace Sandbox.Grains.Hosts.Devices;

/// <summary>
/// The devices that this host offers, and who has them. A device goes to a machine before that starts, and is reset when that is gone; whatever is left of a crash is found again by <c>RecoverAsync</c>. Several servers of one machine
/// share the leases; each looks after its own.
/// </summary>
internal sealed class HostDevices : IDisposable
{
    private readonly DeviceOptions _options;
    private readonly string _hostId;
    private readonly SysfsTree _sysfs;
    private readonly ILogger _logger;
    private readonly DeviceLeases? _leases;
    private readonly DeviceBinding? _binding;

    /// <summary>One recovery, or one reset, at a time: a recovery takes every reset under way for one that was cut off.</summary>
    private readonly SemaphoreSlim _resetting = new(1, 1);

    /// <summary>One choice at a time: two that look at once would want the same device, and one would be refused for nothing.</summary>
    private readonly SemaphoreSlim _choosing = new(1, 1);
    private volatile Look _look = Look.Nothing;

    public HostDevices(DeviceOptions options, string hostId, SysfsTree? sysfs, ILogger logger)
    {
        (_options, _hostId, _logger) = (options, hostId, logger);
        _sysfs = sysfs ?? new SysfsTree(options.SysfsRoot);
        if (!options.Enabled || (_sysfs.Root == DeviceOptions.SystemSysfs && !Environment.IsPrivilegedProcess))
        {
            return;
        }

        _look = LookAround();
        if (_look.Offered.Count == 0 && !Directory.Exists(options.LeaseDirectory))
        {
            return;
        }

        try
        {
            _leases = new DeviceLeases(options.LeaseDirectory);
            _binding = new DeviceBinding(_sysfs, _leases, options.DevRoot);
            logger.LogInformation("Host {Host} offers {Count} devices to sessions: {Devices}", hostId, _look.Offered.Count, string.Join(", ", _look.Offered.Select(d => d.Address)));
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            _look = Look.Nothing;
            logger.LogWarning(e, "Host {Host} offers no devices: {Directory}, where it would write down who has them, cannot be used", hostId, options.LeaseDirectory);
        }
    }

    public void Dispose()
    {
        _resetting.Dispose();
        _choosing.Dispose();
    }

    /// <summary>What this host offers now, and by which of its backends.</summary>
    public IReadOnlyList<HostDeviceReport> Report(IEnumerable<IIsolationBackend> backends)
    {
        if (_leases is null)
        {
            return [];
        }

        var look = _look;
        IReadOnlyList<DeviceLease> leases;
        DeviceOffer offer;
        try
        {
            leases = _leases.List();
            offer = DeviceOffer.Of(_hostId, look.Offered, leases, _leases.Unreadable);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // Without leases nothing is free; the host itself goes on.
            _logger.LogWarning(e, "The leases of devices in {Directory} cannot be read: host {Host} offers none", _options.LeaseDirectory, _hostId);
            return [];
        }

        return
        [
            .. offer.Devices.Select(d => new HostDeviceReport
            {
                Address = d.Address.ToString(),
                Kind = DeviceWords.Of(d.Kind),
                Model = $"{d.Vendor:x4}:{d.Device:x4}",
                State = DeviceWords.Of(d.State),
                Group = d.IommuGroup,
                Backends = [.. backends.Where(b => CanHandOut(look, d, b)).Select(b => b.Name)],
                Problem = leases.FirstOrDefault(l => l.Address == d.Address)?.Problem,
            }),
        ];
    }

    /// <summary>Acquires devices for a machine that is about to start, and makes them ready for how its backend hands them out. All or none.</summary>
    /// <exception cref="SandboxException"><see cref="SandboxErrorCode.ResourceExhausted"/>: they are not free, whatever the scheduler believed. <see cref="SandboxErrorCode.Unavailable"/>: one could not be made ready.</exception>
    public async Task<IReadOnlyList<MicroVmDevice>> AcquireAsync(DeviceOwner owner, IReadOnlyList<DeviceNeed> needs, IIsolationBackend backend, CancellationToken cancellationToken)
    {
        if (needs.Count == 0)
        {
            return [];
        }

        if (_leases is null || _binding is null || !backend.Capabilities.Devices)
        {
            throw new SandboxException(SandboxErrorCode.Unsupported, $"Host {_hostId} hands no devices to sessions of backend '{backend.Name}'.");
        }

        var look = _look;
        var chosen = await ChooseAsync(look, _leases, owner, needs, backend, cancellationToken);
        try
        {
            foreach (var device in chosen)
            {
                await (backend.Capabilities.Handover == DeviceHandover.Cdi ? _binding.LendAsync(device, owner, cancellationToken) : _binding.BindAsync(device, owner, look.Inventory, cancellationToken));
            }
        }
        catch (DeviceException e)
        {
            // Whoever asked releases them: nothing of a machine has seen them.
            throw SandboxException.Unavailable($"Host {_hostId} could not make a device ready: {e.Message}");
        }

        _logger.LogInformation("Session {Session} generation {Generation} has devices {Devices}", owner.SessionId, owner.Generation, string.Join(", ", chosen.Select(d => d.Address)));
        return [.. chosen.Select(d => new MicroVmDevice(d.Address, d.IommuGroup!.Value, look.CdiNames.GetValueOrDefault(d.Address)))];
    }

    /// <summary>The owner's machine is gone: whatever it had is reset, and free once that has succeeded. Never throws; what fails is tried again by <c>RecoverAsync</c>.</summary>
    public async Task ReleaseAsync(DeviceOwner owner)
    {
        if (_leases is null)
        {
            return;
        }

        try
        {
            foreach (var lease in _leases.List().Where(l => l.Owner == owner && l.State == DeviceState.Leased))
            {
                await _leases.ReleaseAsync(lease.Address, owner, CancellationToken.None);
            }

            await RecycleAsync(CancellationToken.None);
        }
        catch (Exception e)
        {
            _logger.LogError(e, "Devices of session {Session} generation {Generation} could not be given back now; the reaper tries again", owner.SessionId, owner.Generation);
        }
    }

    /// <summary>Looks at the devices again, takes them from owners of this host that are no more, and resets what waits for it. Leftover machines must have been removed before. What fails is tried again the next time.</summary>
    public async Task RecoverAsync(Func<DeviceOwner, bool> isLive, CancellationToken cancellationToken)
    {
        try
        {
            if (_leases is { } leases)
            {
                await LookAfterAsync(leases, isLive, cancellationToken);
            }
        }
        catch (Exception e) when (e is not OperationCanceledException)
        {
            _logger.LogError(e, "Devices of host {Host} could not be looked after now", _hostId);
        }
    }

    private async Task LookAfterAsync(DeviceLeases leases, Func<DeviceOwner, bool> isLive, CancellationToken cancellationToken)
    {
        _look = LookAround();
        await _resetting.WaitAsync(cancellationToken);
        try
        {
            foreach (var lease in await leases.RecoverAsync(_hostId, isLive, cancellationToken))
            {
                _logger.LogWarning("Device {Device} was left over by session {Session} generation {Generation}: it is reset", lease.Address, lease.Owner.SessionId, lease.Owner.Generation);
            }
        }
        finally
        {
            _resetting.Release();
        }

        await RecycleAsync(cancellationToken);
    }

    /// <summary>Resets what this host's machines have left.</summary>
    private async Task RecycleAsync(CancellationToken cancellationToken)
    {
        await _resetting.WaitAsync(cancellationToken);
        try
        {
            foreach (var lease in _leases!.List().Where(l => l.State == DeviceState.Dirty && l.Owner.HostId == _hostId))
            {
                var now = await _binding!.RecycleAsync(lease.Address, cancellationToken);
                if (now.State != DeviceState.Free)
                {
                    _logger.LogError("Device {Device} could not be reset and stays out of use: {Problem}", now.Address, now.Problem);
                }
            }
        }
        finally
        {
            _resetting.Release();
        }
    }

    private async Task<IReadOnlyList<HostDevice>> ChooseAsync(Look look, DeviceLeases leases, DeviceOwner owner, IReadOnlyList<DeviceNeed> needs, IIsolationBackend backend, CancellationToken cancellationToken)
    {
        await _choosing.WaitAsync(cancellationToken);
        try
        {
            var offer = DeviceOffer.Of(_hostId, look.Offered, leases.List(), leases.Unreadable);
            offer = offer with { Devices = [.. offer.Devices.Select(d => CanHandOut(look, d, backend) ? d : d with { IommuGroup = null })] };
            var requests = DevicePlacement.RequestsOf(new SessionNeeds { Devices = needs });
            if (DeviceAdmission.Choose(requests, [offer], out var refusal) is not { } found)
            {
                throw new SandboxException(SandboxErrorCode.ResourceExhausted, refusal);
            }

            var chosen = found.Devices.Select(a => look.Inventory.Find(a)!).ToList();
            foreach (var device in chosen)
            {
                await leases.AcquireAsync(device, owner, cancellationToken);
            }

            return chosen;
        }
        catch (DeviceException e)
        {
            // Another server of this machine was faster.
            throw new SandboxException(SandboxErrorCode.ResourceExhausted, e.Message);
        }
        finally
        {
            _choosing.Release();
        }
    }

    private bool CanHandOut(Look look, OfferedDevice device, IIsolationBackend backend) => device.IommuGroup is not null && backend.Capabilities.Handover switch
    {
        DeviceHandover.Vfio => _binding!.HasVfio,
        DeviceHandover.Cdi => look.CdiNames.ContainsKey(device.Address),
        _ => false,
    };

    private Look LookAround()
    {
        var inventory = DeviceInventory.Read(_sysfs);
        List<HostDevice> offered = [.. inventory.Accelerators.Where(d => _options.Addresses.Count > 0 ? _options.Addresses.Contains(d.Address.ToString()) : !d.IsBootDisplay)];
        return new Look(inventory, offered, offered.Count > 0 ? CdiNames.Of(_sysfs, inventory.Accelerators, CdiRegistry.Read(_options.CdiDirectories)) : new Dictionary<PciAddress, string>());
    }

    /// <summary>What was seen at one time.</summary>
    private sealed record Look(DeviceInventory Inventory, IReadOnlyList<HostDevice> Offered, IReadOnlyDictionary<PciAddress, string> CdiNames)
    {
        public static Look Nothing { get; } = new(DeviceInventory.Read(new SysfsTree("/nonexistent")), [], new Dictionary<PciAddress, string>());
    }
}
