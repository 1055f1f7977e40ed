using System.Diagnostics;
using Microsoft.Extensions.Logging;
using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Disks;
using Sandbox.Isolation.Guest;
using Sandbox.Isolation.Oci.Hosting;

namespace Sandbox.Isolation.Oci.Machine;

// Saving a container: under gVisor with its memory, else its disk alone.
internal sealed partial class OciMicroVm
{
    /// <summary>How long gVisor may take to stop, save or continue a container.</summary>
    private static readonly TimeSpan CommandDeadline = TimeSpan.FromMinutes(2);

    /// <summary>How long output of a stopped container is waited for. It is in the pipe or it does not exist.</summary>
    private static readonly TimeSpan SettleDeadline = TimeSpan.FromSeconds(1);

    private readonly SemaphoreSlim _savingTurn = new(1, 1);
    private GuestQuiet? _stopped;

    public async Task<SaveReport> SaveAsync(IMachineSink sink, SaveMode mode, Func<CancellationToken, Task> whileStopped, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(sink);
        ArgumentNullException.ThrowIfNull(whileStopped);
        await _savingTurn.WaitAsync(cancellationToken);
        try
        {
            return _stopped is null
                ? await SaveOnceAsync(sink, mode, whileStopped, cancellationToken)
                : throw new IsolationException($"Container {Owner.VmId} was saved and stands still; continue it before it is saved again.");
        }
        catch (Exception e) when (e is not (IsolationException or OperationCanceledException) || (e is OperationCanceledException && !cancellationToken.IsCancellationRequested))
        {
            var why = Exited.IsCompleted ? $"it is dead: {(await Exited).Reason}" : e.Message;
            throw new IsolationException($"Container {Owner.VmId} could not be saved: {why}", e);
        }
        finally
        {
            _savingTurn.Release();
        }
    }

    public async Task ContinueAsync(CancellationToken cancellationToken)
    {
        await _savingTurn.WaitAsync(cancellationToken);
        try
        {
            if (Exited.IsCompleted)
            {
                throw new IsolationException($"Container {Owner.VmId} cannot go on, it is dead: {(await Exited).Reason}");
            }

            if (_stopped is { } quiet)
            {
                await RunOnAsync(quiet);
                _stopped = null;
            }
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new IsolationException($"Container {Owner.VmId} cannot go on: {e.Message}", e);
        }
        finally
        {
            _savingTurn.Release();
        }
    }

    private async Task<SaveReport> SaveOnceAsync(IMachineSink sink, SaveMode mode, Func<CancellationToken, Task> whileStopped, CancellationToken cancellationToken)
    {
        if (Exited.IsCompleted)
        {
            throw new IsolationException($"Container {Owner.VmId} could not be saved, it is dead: {(await Exited).Reason}");
        }

        // Before it stands still: what is written back now need not be waited for then.
        await Task.Run(() => Kernel.Sync(_launched!.DiskMount), cancellationToken);
        var checkpoint = Path.Combine(_host.Checkpoints, Owner.VmId);
        var copy = _diskPath + ".saving";
        var quiet = await _guest!.QuiesceAsync(cancellationToken);
        var stopped = Stopwatch.GetTimestamp();
        var runs = false;
        try
        {
            await StandStillAsync(cancellationToken);
            await SettleAsync(quiet, cancellationToken);

            // Before the caller writes down its executions: then the memo knows each of them.
            var memo = quiet.Remember().Encode();
            await whileStopped(cancellationToken);
            if (_host.Runtime.IsGvisor)
            {
                Remove(checkpoint);
                Directory.CreateDirectory(checkpoint, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
                await _host.Runtime.CommandAsync(_directory.State, ["checkpoint", "--leave-running", "--compression=none", "--exclude-committed-zero-pages", "--image-path", checkpoint, Owner.VmId], CommandDeadline, cancellationToken);
            }

            await Task.Run(() => Kernel.Sync(_launched!.DiskMount), cancellationToken);
            var still = TimeSpan.Zero;
            if (mode != SaveMode.StayStopped)
            {
                File.Delete(copy);
                await DataDisk.CopyAsync(_diskPath, copy, cancellationToken);
                await RunOnAsync(quiet);
                runs = true;
                still = Stopwatch.GetElapsedTime(stopped);
            }

            var report = await GiveAsync(sink, memo, _host.Runtime.IsGvisor ? checkpoint : null, mode != SaveMode.StayStopped ? copy : _diskPath, cancellationToken);
            if (mode == SaveMode.StayStopped)
            {
                _stopped = quiet;
                if (_disposed)
                {
                    quiet.Dispose();
                }

                still = Stopwatch.GetElapsedTime(stopped);
            }

            return report with { Stopped = still };
        }
        catch when (!runs)
        {
            await RunOnAfterFailureAsync(quiet);
            throw;
        }
        finally
        {
            Remove(checkpoint);
            File.Delete(copy);
            File.Delete(copy + DataDisk.Partial);
        }
    }

    private Task<SaveReport> GiveAsync(IMachineSink sink, byte[] memo, string? checkpoint, string disk, CancellationToken cancellationToken) => Task.Run(
        async () =>
        {
            var (table, memoryBytes) = checkpoint is null ? ("{}"u8.ToArray(), 0L) : CheckpointFiles.Describe(checkpoint);
            await sink.BeginAsync(new MachineFacts(_host.Name, _origin.Fingerprint, null, memoryBytes, _diskBytes), cancellationToken);
            await sink.WriteDevicesAsync(table, cancellationToken);
            await sink.WriteGuestAsync(memo, cancellationToken);
            var memory = checkpoint is null ? 0 : await CheckpointFiles.WriteAsync(checkpoint, sink, cancellationToken);
            using var file = File.OpenHandle(disk, FileMode.Open, FileAccess.Read, FileShare.ReadWrite);
            var bytes = 0L;
            foreach (var block in DiskDifference.Of(file, null, _diskBytes))
            {
                cancellationToken.ThrowIfCancellationRequested();
                await sink.WriteDiskAsync(block, cancellationToken);
                bytes += block.Data.Length;
            }

            return new SaveReport(TimeSpan.Zero, memory, bytes);
        },
        cancellationToken);

    /// <summary>gVisor must be awake to save itself, so there its own pause is what stops the programs; elsewhere the kernel's freezer does.</summary>
    private Task StandStillAsync(CancellationToken cancellationToken) => _host.Runtime.IsGvisor
        ? _host.Runtime.CommandAsync(_directory.State, ["pause", Owner.VmId], CommandDeadline, cancellationToken)
        : _host.Cgroups.FreezeAsync(Owner.VmId, cancellationToken);

    private async Task RunOnAsync(GuestQuiet quiet)
    {
        if (_host.Runtime.IsGvisor)
        {
            await _host.Runtime.CommandAsync(_directory.State, ["resume", Owner.VmId], CommandDeadline, CancellationToken.None);
        }
        else
        {
            _host.Cgroups.Thaw(Owner.VmId);
        }

        quiet.Dispose();
    }

    private async Task RunOnAfterFailureAsync(GuestQuiet quiet)
    {
        try
        {
            await RunOnAsync(quiet);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or IsolationException)
        {
            // It was not stopped yet, or it died, or it will be found out by whoever asks it next.
            _host.Logger.LogWarning(e, "Container {VmId} could not be continued after a save that failed", Owner.VmId);
            quiet.Dispose();
        }
    }

    /// <summary>Waits until the host has read what was in the pipe when the container stopped.</summary>
    private async Task SettleAsync(GuestQuiet quiet, CancellationToken cancellationToken)
    {
        var began = Stopwatch.GetTimestamp();
        for (var still = 0; still < 2 && Stopwatch.GetElapsedTime(began) < SettleDeadline;)
        {
            var before = quiet.Received;
            await Task.Delay(1, cancellationToken);
            still = quiet.Received == before && _pipes!.Waiting == 0 ? still + 1 : 0;
        }
    }

    private static void Remove(string directory)
    {
        if (Directory.Exists(directory))
        {
            Directory.Delete(directory, recursive: true);
        }
    }
}
