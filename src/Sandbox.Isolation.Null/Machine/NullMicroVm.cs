using System.Diagnostics;
using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Guest;
using Sandbox.Isolation.Null.Interpreter;
using Sandbox.Isolation.Null.State;

namespace Sandbox.Isolation.Null.Machine;

/// <summary>A machine that is an object.</summary>
internal sealed class NullMicroVm : IMicroVm
{
    private readonly TaskCompletionSource<MicroVmExit> _exited = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly SemaphoreSlim _saving = new(1, 1);
    private readonly Lock _gate = new();
    private readonly NullOptions _options;
    private readonly OwnerRecords _records;
    private readonly MicroVmSpec _spec;
    private readonly NullDisk _disk;
    private readonly NullGuest _guest;
    private readonly Action<NullMicroVm> _removed;
    private LiveFile? _live;

    private NullMicroVm(MicroVmSpec spec, NullOptions options, OwnerRecords records, LiveFile? live, Action<NullMicroVm> removed)
    {
        (_spec, _options, _records, _live, _removed, Owner) = (spec, options, records, live, removed, spec.Owner);
        _disk = NullDisk.Open(spec.DiskPath, options.Clock);
        _guest = new NullGuest(spec, _disk, options.Clock, why => End(new MicroVmExit(false, why)));
    }

    /// <inheritdoc/>
    public MicroVmOwner Owner { get; private set; }

    /// <inheritdoc/>
    public IGuest Guest => _guest;

    /// <inheritdoc/>
    public Task<MicroVmExit> Exited => _exited.Task;

    /// <inheritdoc/>
    public MicroVmStartReport StartReport { get; private set; } = new("boot", "", 1, TimeSpan.Zero);

    /// <inheritdoc/>
    public IReadOnlyList<IGuestExecution> Survivors { get; private set; } = [];

    /// <summary>Makes a machine. If that fails, nothing of it is left.</summary>
    /// <param name="spec">What to make.</param>
    /// <param name="options">Where its traces go.</param>
    /// <param name="records">The records of owners.</param>
    /// <param name="parked">For the warm pool: it stands still until it is claimed.</param>
    /// <param name="removed">Called when it is disposed.</param>
    /// <param name="cancellationToken">Gives up.</param>
    public static async Task<NullMicroVm> StartAsync(
        MicroVmSpec spec, NullOptions options, OwnerRecords records, bool parked, Action<NullMicroVm> removed, CancellationToken cancellationToken)
    {
        var began = Stopwatch.GetTimestamp();
        var diskExisted = File.Exists(spec.DiskPath);
        records.Write(spec.Owner);
        LiveFile? live = null;
        try
        {
            live = LiveFile.Take(options.LiveDirectory, spec.Owner, options.Clock);
            MachineState? state = null;
            if (spec.Restore is { } restore)
            {
                (state, var disk) = await SavedForm.ReadAsync(restore.Source, spec, cancellationToken).ConfigureAwait(false);
                NullDisk.Restore(spec.DiskPath, disk);
            }

            var machine = new NullMicroVm(spec, options, records, live, removed);
            if (state is not null)
            {
                machine.Survivors = machine._guest.Load(state, spec.Restore!.Executions);
            }

            if (!parked)
            {
                machine._guest.Continue();
            }

            var method = state is not null ? "restore" : diskExisted || spec.Devices.Count > 0 ? "boot" : "clone";
            machine.StartReport = new MicroVmStartReport(method, "", 1, Stopwatch.GetElapsedTime(began));
            return machine;
        }
        catch (Exception e)
        {
            live?.Dispose();
            records.Remove(spec.Owner.VmId);
            if (!diskExisted)
            {
                File.Delete(spec.DiskPath);
            }

            throw e is IOException or UnauthorizedAccessException ? new IsolationException($"MicroVM {spec.Owner.VmId} did not start: {e.Message}", e) : e;
        }
    }

    /// <inheritdoc/>
    public Task ClaimAsync(MicroVmClaim claim, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(claim);
        var began = Stopwatch.GetTimestamp();
        var owner = Owner with { SessionId = claim.SessionId, Generation = claim.Generation };
        try
        {
            // The owner first: if this process dies now, the reaper must find whose it was.
            _records.Write(owner);
            var live = LiveFile.Take(_options.LiveDirectory, owner, _options.Clock);
            lock (_gate)
            {
                if (Exited.IsCompleted)
                {
                    live?.Dispose();
                    throw new IsolationException($"MicroVM {Owner.VmId} of the warm pool is dead.");
                }

                (_live, Owner) = (live, owner);
            }

            File.Move(_disk.HostPath, claim.DiskPath);
            _disk.HostPath = claim.DiskPath;
        }
        catch (IOException e)
        {
            throw new IsolationException($"MicroVM {Owner.VmId} of the warm pool could not be claimed: {e.Message}", e);
        }

        _guest.Continue();
        StartReport = new MicroVmStartReport("pool", "", 1, Stopwatch.GetElapsedTime(began));
        return Task.CompletedTask;
    }

    /// <inheritdoc/>
    public async Task<SaveReport> SaveAsync(IMachineSink sink, SaveMode mode, Func<CancellationToken, Task> whileStopped, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(sink);
        ArgumentNullException.ThrowIfNull(whileStopped);
        await _saving.WaitAsync(cancellationToken).ConfigureAwait(false);
        var ran = false;
        try
        {
            var began = Stopwatch.GetTimestamp();
            ran = _guest.Stop();
            var (state, disk) = _guest.Save();
            await whileStopped(cancellationToken).ConfigureAwait(false);
            var stopped = Stopwatch.GetElapsedTime(began);
            if (mode != SaveMode.StayStopped && ran)
            {
                _guest.Continue();
            }

            var report = await SavedForm.WriteAsync(state, disk, _spec, _options.DirtyPages, sink, cancellationToken).ConfigureAwait(false);
            return report with { Stopped = mode != SaveMode.StayStopped ? stopped : Stopwatch.GetElapsedTime(began) };
        }
        catch (Exception e)
        {
            // As if nothing had been asked: one that stood still before stands still.
            if (ran)
            {
                _guest.Continue();
            }

            throw e is GuestUnavailableException or IOException ? new IsolationException($"MicroVM {Owner.VmId} could not be saved: {e.Message}", e) : e;
        }
        finally
        {
            _saving.Release();
        }
    }

    /// <inheritdoc/>
    public Task ContinueAsync(CancellationToken cancellationToken)
    {
        _guest.Continue();
        return Exited.IsCompleted ? throw new IsolationException($"MicroVM {Owner.VmId} is dead.") : Task.CompletedTask;
    }

    /// <inheritdoc/>
    public ValueTask DisposeAsync()
    {
        End(new MicroVmExit(true, "it was asked to stop"));
        _records.Remove(Owner.VmId);
        _removed(this);
        return ValueTask.CompletedTask;
    }

    private void End(MicroVmExit exit)
    {
        _guest.Close(exit.Reason);
        lock (_gate)
        {
            _live?.Dispose();
            _live = null;
            _exited.TrySetResult(exit);
        }
    }
}
