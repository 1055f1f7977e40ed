using Microsoft.Extensions.Logging;
using Sandbox.Abstractions;
using Sandbox.Isolation.Backends;
using Sandbox.Snapshots;

namespace Sandbox.Grains.Hosts.Runtime;

/// <summary>Starting, watching and stopping microVMs.</summary>
internal sealed partial class HostRuntime
{
    private const string DiskName = "disk.img";
    private readonly MachineTable _machines = new();

    /// <summary>Starts a microVM, or joins its start. A lower generation of the session is killed first; a lower one than seen is refused.</summary>
    public async Task<MicroVmStarted> StartMachineAsync(string vmId, MicroVmStart start)
    {
        LiveMicroVm machine;
        lock (_gate)
        {
            if (_draining)
            {
                throw SandboxException.Unavailable($"Host {HostId} is being stopped.");
            }

            Ledger.Raise(start.SessionId, start.Generation);
            if (!_machines.TryGet(vmId, out machine!))
            {
                var others = _machines.Of(start.SessionId);
                if (others.FirstOrDefault(m => m.Generation >= start.Generation) is { } other)
                {
                    throw SandboxException.Conflict($"Session {start.SessionId} has microVM {other.VmId} for generation {other.Generation} already.");
                }

                machine = new LiveMicroVm(vmId, start);
                _machines.Add(machine);
                using (ExecutionContext.SuppressFlow())
                {
                    machine.Started = Task.Run(() => BringUpAsync(machine, others));
                    machine.Removed = Task.Run(() => WatchAsync(machine));
                }
            }
            else if (machine.Generation != start.Generation)
            {
                throw SandboxException.Conflict($"MicroVM {vmId} belongs to generation {machine.Generation}, not {start.Generation}.");
            }
        }

        return await machine.Started;
    }

    /// <summary>Whether a microVM of a generation runs or is being started.</summary>
    public bool IsAlive(string vmId, long generation)
    {
        lock (_gate)
        {
            return _machines.TryGet(vmId, out var machine) && machine.Generation == generation && machine.StopReason is null && !machine.Ended.IsCompleted;
        }
    }

    /// <summary>Kills a microVM and returns when all it held is gone. Not finding it is no error.</summary>
    public async Task StopMachineAsync(string vmId, long generation, string reason)
    {
        LiveMicroVm? machine;
        lock (_gate)
        {
            _machines.TryGet(vmId, out machine);
        }

        if (machine is null)
        {
            return;
        }

        if (machine.Generation != generation)
        {
            throw SandboxException.Conflict($"MicroVM {vmId} belongs to generation {machine.Generation}, not {generation}.");
        }

        machine.RequestStop(reason);
        await machine.Removed;
    }

    /// <summary>The tenant whose session has a directory on this host, or <see langword="null"/>.</summary>
    public string? TenantOf(string sessionId)
    {
        if (!SandboxIds.IsSession(sessionId))
        {
            return null;
        }

        var file = Path.Combine(_options.SessionDirectory(sessionId), "tenant");
        return File.Exists(file) ? File.ReadAllText(file) : null;
    }

    /// <summary>A machine that runs and is of the generation meant.</summary>
    internal LiveMicroVm Get(string vmId, long generation)
    {
        LiveMicroVm? machine;
        lock (_gate)
        {
            _machines.TryGet(vmId, out machine);
        }

        if (machine is null)
        {
            throw SandboxException.Unavailable($"MicroVM {vmId} does not run on host {HostId}.");
        }

        if (machine.Generation != generation)
        {
            throw SandboxException.Conflict($"MicroVM {vmId} belongs to generation {machine.Generation}, not {generation}.");
        }

        if (machine.Save is { Stop: true, Occupies: true })
        {
            throw SandboxException.Unavailable($"MicroVM {vmId} is being paused.");
        }

        return machine.Machine is not null && machine.StopReason is null && !machine.Ended.IsCompleted
            ? machine
            : throw SandboxException.Unavailable($"MicroVM {vmId} is being started or stopped.");
    }

    private async Task<MicroVmStarted> BringUpAsync(LiveMicroVm machine, IReadOnlyList<LiveMicroVm> stale)
    {
        foreach (var old in stale)
        {
            // Before anything else: two machines must never have the same disk open.
            old.RequestStop($"its generation {old.Generation} was replaced by {machine.Generation}");
            await old.Removed;
        }

        using var deadline = CancellationTokenSource.CreateLinkedTokenSource(machine.Stopping.Token);
        deadline.CancelAfter(_options.StartTimeout);
        try
        {
            return await BootAsync(machine, deadline.Token);
        }
        catch (OperationCanceledException) when (deadline.IsCancellationRequested)
        {
            throw SandboxException.Unavailable(machine.StopReason is { } reason
                ? $"MicroVM {machine.VmId} was stopped while it started: {reason}."
                : $"MicroVM {machine.VmId} did not start within {_options.StartTimeout.TotalSeconds:0} s.");
        }
        catch (Exception e) when (e is IsolationException or SnapshotException)
        {
            _logger.LogWarning(e, "MicroVM {Vm} of session {Session} did not start", machine.VmId, machine.SessionId);
            throw e is SnapshotException ? Translate(e, $"Session {machine.SessionId} could not be restored") : SandboxException.Unavailable(e.Message);
        }
        catch (Exception e) when (e is not SandboxException)
        {
            _logger.LogError(e, "MicroVM {Vm} of session {Session} did not start", machine.VmId, machine.SessionId);
            throw new SandboxException(SandboxErrorCode.Internal, $"MicroVM {machine.VmId} did not start: {e.Message}");
        }
    }

    private const string DiskOnlyWarning = "a pause, checkpoint or fork of this session keeps its files only: its backend saves no memory, so whatever runs ends, and contexts begin anew";

    private const string DeviceWarning = "handing devices to sessions was never verified on hardware: see docs/devices.md";

    private async Task<MicroVmStarted> BootAsync(LiveMicroVm machine, CancellationToken cancellationToken)
    {
        var start = machine.Start;
        if (!_backends.TryGetValue(start.Backend, out var backend))
        {
            throw SandboxException.Unavailable($"Host {HostId} has no backend '{start.Backend}'; it has: {string.Join(", ", _backends.Keys.Order(StringComparer.Ordinal))}.");
        }

        var image = _images.VersionDirectory(start.Template, start.TemplateVersion);
        if (!Directory.Exists(image))
        {
            throw SandboxException.Unavailable($"Host {HostId} does not have version {start.TemplateVersion} of template '{start.Template}'.");
        }

        var directory = _options.SessionDirectory(start.SessionId);
        HostDirectories.CreatePassable(directory);
        await File.WriteAllTextAsync(Path.Combine(directory, "tenant"), start.Tenant, cancellationToken);
        NoteTenant(start.Tenant);
        var spec = new MicroVmSpec
        {
            Owner = new MicroVmOwner(machine.VmId, start.SessionId, start.Generation),
            ImageDirectory = image,
            Vcpus = start.Vcpus,
            MemoryMiB = start.MemoryMiB,
            DiskMiB = start.DiskMiB,
            DiskPath = Path.Combine(directory, DiskName),
            Hostname = "sandbox-" + start.SessionId[^8..],
            Devices = await _devices.AcquireAsync(machine.DeviceOwnerOn(HostId), start.Devices, backend, cancellationToken),
        };
        if (start.Devices.Count > 0)
        {
            // Whoever asks for them from now on hears that they are taken, and is not given a session that cannot start.
            await ReportQuietlyAsync();
        }

        var diskExisted = start.Restore is null && File.Exists(spec.DiskPath);
        var restored = Restored.Nothing;
        if (start.Restore is { } restore)
        {
            restored = await RestoreMachineAsync(machine, restore, backend, spec, cancellationToken);
        }
        else
        {
            machine.Machine = (diskExisted || start.Devices.Count > 0 ? null : await TryClaimAsync(machine, image, spec.DiskPath, spec.Hostname, cancellationToken))
                ?? await StartNewAsync(backend, spec, cancellationToken);

            // What its session had suspended here has ended: the session went on without it.
            _suspended.Clear(start.SessionId);
        }

        await AttachEgressAsync(machine, cancellationToken);
        var report = machine.Machine!.StartReport;
        var verdict = await backend.ProbeAsync(cancellationToken);
        return new MicroVmStarted
        {
            Method = report.Method,
            Accelerator = report.Accelerator,
            Duration = report.Duration,
            DiskExisted = diskExisted,
            Warnings =
            [
                .. verdict.Warnings,
                .. (string[])(backend.Capabilities is { DiskSnapshot: true, MemorySnapshot: false } ? [DiskOnlyWarning] : []),
                .. (string[])(start.Devices.Count > 0 ? [DeviceWarning] : []),
            ],
            Executions = restored.Executions,
            ImportedLogs = restored.ImportedLogs,

            // What is inside of a device cannot be saved, and so the memory that is full of it neither.
            CanSave = backend.Capabilities.DiskSnapshot && _snapshots is not null && !(start.Devices.Count > 0 && backend.Capabilities.MemorySnapshot),
            DiskOnly = !backend.Capabilities.MemorySnapshot,
            Network = machine.Machine.Network is not null,
        };
    }

    /// <summary>Clones or boots, when its turn has come.</summary>
    private async Task<IMicroVm> StartNewAsync(IIsolationBackend backend, MicroVmSpec spec, CancellationToken cancellationToken)
    {
        await _starts.WaitAsync(cancellationToken);
        try
        {
            return await backend.StartAsync(spec, cancellationToken);
        }
        finally
        {
            _starts.Release();
        }
    }

    /// <summary>Follows a machine to its end, whatever that is, and removes it.</summary>
    private async Task WatchAsync(LiveMicroVm machine)
    {
        await ((Task)machine.Started).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing | ConfigureAwaitOptions.ForceYielding);
        var (asked, removed) = (true, true);
        if (machine.Machine is { } vm)
        {
            var why = await WaitForEndAsync(machine, vm);
            asked = machine.StopReason is not null;
            machine.SetEnded(why);
            _logger.LogInformation("MicroVM {Vm} of session {Session} generation {Generation} ended: {Why}", machine.VmId, machine.SessionId, machine.Generation, why);
            var closing = CloseEgressAsync(machine);
            try
            {
                await vm.DisposeAsync();
            }
            catch (Exception e)
            {
                removed = false;
                _logger.LogError(e, "MicroVM {Vm} could not be removed whole; the reaper tries again", machine.VmId);
            }

            await closing;
            await machine.Connections.RemoveAllAsync();
            foreach (var pump in machine.Executions.Values)
            {
                // Only those that a save holds: they go on after the resume, and their logs stay open.
                pump.Detach();
            }

            await Task.WhenAll(machine.Pumps.Values).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            await EndSaveAsync(machine);
        }
        else
        {
            machine.SetEnded("it was not started");
        }

        if (removed && machine.Start.Devices.Count > 0)
        {
            await _devices.ReleaseAsync(machine.DeviceOwnerOn(HostId));
        }

        lock (_gate)
        {
            _machines.Remove(machine);
        }

        Release(machine.SessionId, machine.Generation);
        if (machine.Start.Devices.Count > 0)
        {
            // Whoever asks for them now must not be told that they are taken, only because the next report is some seconds away.
            await ReportQuietlyAsync();
        }

        if (!asked)
        {
            using (ExecutionContext.SuppressFlow())
            {
                _ = Task.Run(() => TellSessionAsync(machine.SessionId, s => s.OnMicroVmEndedAsync(machine.Generation, machine.Ended.Result)));
            }
        }
    }

    private static async Task<string> WaitForEndAsync(LiveMicroVm machine, IMicroVm vm)
    {
        var stop = new TaskCompletionSource();
        await using var registration = machine.Stopping.Token.Register(stop.SetResult);
        var first = await Task.WhenAny(vm.Exited, vm.Guest.Closed, stop.Task);
        if (first == vm.Guest.Closed)
        {
            // A machine that dies takes its channel with it: the machine's own word, if it comes at once, says more.
            await Task.WhenAny(vm.Exited, Task.Delay(TimeSpan.FromSeconds(1)));
        }

        return machine.StopReason
            ?? (vm.Exited.IsCompleted ? "its microVM ended: " + (await vm.Exited).Reason : "its guest agent was lost: " + await vm.Guest.Closed);
    }

    /// <summary>Tells a session grain something until it has heard it. The grain may be on a silo that is just dying: hence the patience.</summary>
    private async Task TellSessionAsync(string sessionId, Func<ISessionGrain, Task> tell)
    {
        TenantContext.Set(TenantContext.System);
        for (var attempt = 0; attempt < 60 && !_stopping.IsCancellationRequested; attempt++)
        {
            try
            {
                await tell(_grains.GetGrain<ISessionGrain>(sessionId));
                return;
            }
            catch (SandboxException e) when (e.Code is SandboxErrorCode.NotFound or SandboxErrorCode.Conflict)
            {
                return;
            }
            catch (Exception e)
            {
                _logger.LogDebug(e, "Session {Session} cannot be told now; attempt {Attempt}", sessionId, attempt + 1);
                await Task.Delay(TimeSpan.FromMilliseconds(Math.Min(5000, 100 << Math.Min(attempt, 6)))).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            }
        }
    }
}
