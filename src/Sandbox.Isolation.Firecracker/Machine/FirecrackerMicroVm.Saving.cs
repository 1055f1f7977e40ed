using System.Diagnostics;
using System.Net.Sockets;
using Microsoft.Extensions.Logging;
using Microsoft.Win32.SafeHandles;
using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Disks;
using Sandbox.Isolation.Firecracker.Memory;
using Sandbox.Isolation.Golden;
using Sandbox.Isolation.Guest;

namespace Sandbox.Isolation.Firecracker.Machine;

// Saving a machine as a difference from its golden snapshot. docs/firecracker.md says in which order, and why.
internal sealed partial class FirecrackerMicroVm
{
    /// <summary>How long a call may take that lets a machine go on, and then its channel.</summary>
    private static readonly TimeSpan ResumeDeadline = TimeSpan.FromSeconds(10);

    /// <summary>How long output of a paused machine is waited for. It comes at once or not at all.</summary>
    private static readonly TimeSpan SettleDeadline = TimeSpan.FromSeconds(1);

    private readonly SemaphoreSlim _savingTurn = new(1, 1);
    private GuestQuiet? _stopped;
    private bool _wasSaved;
    private bool _channelReset;

    public async Task<SaveReport> SaveAsync(IMachineSink sink, SaveMode mode, Func<CancellationToken, Task> whileStopped, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(sink);
        ArgumentNullException.ThrowIfNull(whileStopped);
        var facts = _origin.Facts ?? throw new NotSupportedException("This microVM cannot be saved.");
        await _savingTurn.WaitAsync(cancellationToken);
        try
        {
            if (_stopped is not null)
            {
                throw new IsolationException($"MicroVM {Owner.VmId} was saved and stands still; continue it before it is saved again.");
            }

            return await SaveOnceAsync(facts, sink, mode, whileStopped, cancellationToken);
        }
        catch (Exception e) when (e is not (IsolationException or OperationCanceledException) || (e is OperationCanceledException && !cancellationToken.IsCancellationRequested))
        {
            var why = Exited.IsCompleted ? $"it is dead: {(await Exited).Reason}" : e.Message;
            throw new IsolationException($"MicroVM {Owner.VmId} could not be saved: {why}", e);
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
                throw new IsolationException($"MicroVM {Owner.VmId} cannot go on, it is dead: {(await Exited).Reason}");
            }

            if (_stopped is { } quiet)
            {
                await ResumeAsync(quiet);
                _stopped = null;
            }
        }
        catch (Exception e) when (e is IOException or SocketException or OperationCanceledException && !cancellationToken.IsCancellationRequested)
        {
            throw new IsolationException($"MicroVM {Owner.VmId} cannot go on: {e.Message}", e);
        }
        finally
        {
            _savingTurn.Release();
        }
    }

    /// <summary>Stops the machine for good and writes its state and memory into a directory, as a golden snapshot's.</summary>
    public async Task SaveGoldenAsync(string directory, long memoryBytes, CancellationToken cancellationToken)
    {
        await _api!.PauseAsync(cancellationToken);
        using var files = new SnapshotFiles(_directory, _user?.UserId);
        await _api.CreateSnapshotAsync(SnapshotFiles.Request(full: true), cancellationToken);
        await File.WriteAllBytesAsync(Path.Combine(directory, GoldenContent.Devices), files.ReadState(Owner.VmId), cancellationToken);
        var path = Path.Combine(directory, GoldenContent.Memory);
        using var memory = File.OpenHandle(path, FileMode.CreateNew, FileAccess.Write);

        // Each clone's user maps it.
        File.SetUnixFileMode(memory, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.GroupRead | UnixFileMode.OtherRead);
        await Task.Run(() => SparseCopy.Copy(files.Memory, memory, memoryBytes), cancellationToken);
    }

    private async Task<SaveReport> SaveOnceAsync(MachineFacts facts, IMachineSink sink, SaveMode mode, Func<CancellationToken, Task> whileStopped, CancellationToken cancellationToken)
    {
        using var disk = OpenDisk(facts.DiskBytes);
        using var golden = _origin.Golden is null ? null : File.OpenHandle(Path.Combine(_origin.Golden.Directory, GoldenContent.Memory));
        using var goldenDisk = _origin.Golden is null ? null : File.OpenHandle(Path.Combine(_origin.Golden.Directory, GoldenContent.Disk));
        using var files = new SnapshotFiles(_directory, _user?.UserId);
        await sink.BeginAsync(facts, cancellationToken);

        // A snapshot writes the disk back; what is written back before need not be waited for while the machine stands still.
        await Task.Run(() => RandomAccess.FlushToDisk(disk), cancellationToken);
        var quiet = await _guest!.QuiesceAsync(cancellationToken);
        var stopped = Stopwatch.GetTimestamp();
        var runs = false;
        try
        {
            await _api!.PauseAsync(cancellationToken);
            await SettleAsync(quiet, cancellationToken);

            // Before the caller writes down its executions: then the memo knows each of them.
            var memo = quiet.Remember().Encode();
            await whileStopped(cancellationToken);

            // What counts as written since the last snapshot is only known for one that began with a known memory: the first one of this process.
            var full = _wasSaved || !_host.KnowsHoles;
            (_wasSaved, _channelReset) = (true, true);
            await _api.CreateSnapshotAsync(SnapshotFiles.Request(full), cancellationToken);
            var state = files.ReadState(Owner.VmId);
            using var aside = mode != SaveMode.StayStopped ? await Task.Run(() => DiskAside.Take(disk, goldenDisk, facts.DiskBytes, _directory.WorkPath), cancellationToken) : null;
            var still = TimeSpan.Zero;
            if (mode != SaveMode.StayStopped)
            {
                await ResumeAsync(quiet);
                runs = true;
                still = Stopwatch.GetElapsedTime(stopped);
            }

            await sink.WriteDevicesAsync(state, cancellationToken);
            await sink.WriteGuestAsync(memo, cancellationToken);
            var memory = new SavedMemory(files.Memory, full, _origin.Memory, golden, facts.MemoryBytes);
            var memoryBytes = await Task.Run(() => memory.WriteAsync(sink, cancellationToken), cancellationToken);
            var diskBytes = await Task.Run(() => WriteDiskAsync(aside?.Blocks() ?? DiskDifference.Of(disk, goldenDisk, facts.DiskBytes), sink, cancellationToken), cancellationToken);
            if (mode == SaveMode.StayStopped)
            {
                _stopped = quiet;
                if (_disposed)
                {
                    quiet.Dispose();
                }

                still = Stopwatch.GetElapsedTime(stopped);
            }

            return new SaveReport(still, memoryBytes, diskBytes);
        }
        catch when (!runs)
        {
            await ResumeAfterFailureAsync(quiet);
            throw;
        }
    }

    /// <summary>Waits until nothing of a paused machine is on its way to the host: Firecracker hands over what it has in the thread that answers the API.</summary>
    private async Task SettleAsync(GuestQuiet quiet, CancellationToken cancellationToken)
    {
        var began = Stopwatch.GetTimestamp();
        for (var still = 0; still < 2 && Stopwatch.GetElapsedTime(began) < SettleDeadline;)
        {
            var before = quiet.Received;
            await _api!.DescribeAsync(cancellationToken);
            still = quiet.Received == before ? still + 1 : 0;
        }
    }

    private SafeFileHandle OpenDisk(long length)
    {
        var disk = File.OpenHandle(_diskPath, FileMode.Open, FileAccess.ReadWrite, FileShare.ReadWrite);
        if (RandomAccess.GetLength(disk) is var actual && actual != length)
        {
            disk.Dispose();
            throw new IsolationException($"MicroVM {Owner.VmId} could not be saved: its disk {_diskPath} has {actual} bytes instead of {length}.");
        }

        return disk;
    }

    private static async Task<long> WriteDiskAsync(IEnumerable<MachineBlock> blocks, IMachineSink sink, CancellationToken cancellationToken)
    {
        var bytes = 0L;
        foreach (var block in blocks)
        {
            cancellationToken.ThrowIfCancellationRequested();
            await sink.WriteDiskAsync(block, cancellationToken);
            bytes += block.Data.Length;
        }

        return bytes;
    }

    /// <summary>
    /// Lets the machine run on. A snapshot tells the guest to close every connection of its socket device, and it does so as soon as it runs: so the channel is joined anew. What ran goes on in it; what was asked
    /// meanwhile fails.
    /// </summary>
    private async Task ResumeAsync(GuestQuiet quiet)
    {
        using var deadline = new CancellationTokenSource(ResumeDeadline);
        await _api!.ResumeAsync(deadline.Token);
        if (_channelReset)
        {
            await _guest!.ReconnectAsync(await DialAsync(deadline.Token), deadline.Token);
            _channelReset = false;
        }

        quiet.Dispose();
    }

    private async Task ResumeAfterFailureAsync(GuestQuiet quiet)
    {
        try
        {
            await ResumeAsync(quiet);
        }
        catch (Exception e) when (e is IOException or SocketException or IsolationException or OperationCanceledException or ObjectDisposedException)
        {
            // It died, or it will be found out by whoever asks it next.
            _logger.LogWarning(e, "MicroVM {VmId} could not be continued after a save that failed", Owner.VmId);
            quiet.Dispose();
        }
    }
}
