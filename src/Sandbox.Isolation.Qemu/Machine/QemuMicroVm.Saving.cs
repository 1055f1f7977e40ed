using System.Diagnostics;
using Microsoft.Extensions.Logging;
using Microsoft.Win32.SafeHandles;
using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Disks;
using Sandbox.Isolation.Guest;
using Sandbox.Isolation.Qemu.Memory;
using Sandbox.Isolation.Qemu.Qmp;

namespace Sandbox.Isolation.Qemu.Machine;

// Saving a machine as a difference from its golden snapshot. docs/golden-snapshots.md says in which order, and why.
internal sealed partial class QemuMicroVm
{
    /// <summary>Disk that is set aside in memory while a machine stands still; more goes to a file.</summary>
    private const long DiskInMemory = 64L << 20;

    /// <summary>How long a command of QEMU's may take that lets a machine go on.</summary>
    private static readonly TimeSpan ResumeDeadline = TimeSpan.FromSeconds(10);

    /// <summary>How long output of a stopped machine is waited for. It comes at once or not at all.</summary>
    private static readonly TimeSpan SettleDeadline = TimeSpan.FromSeconds(1);

    private readonly SemaphoreSlim _savingTurn = new(1, 1);
    private GuestQuiet? _stopped;

    public async Task<SaveReport> SaveAsync(IMachineSink sink, SaveMode mode, Func<CancellationToken, Task> whileStopped, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(sink);
        ArgumentNullException.ThrowIfNull(whileStopped);
        var facts = _origin.Facts ?? throw new NotSupportedException(_devices.Count > 0 ? $"MicroVM {Owner.VmId} has devices of the host ({string.Join(", ", _devices.Select(d => d.Address))}); what is in them cannot be saved." : "This microVM cannot be saved.");
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
        catch (Exception e) when (e is IOException or QmpException or OperationCanceledException && !cancellationToken.IsCancellationRequested)
        {
            throw new IsolationException($"MicroVM {Owner.VmId} cannot go on: {e.Message}", e);
        }
        finally
        {
            _savingTurn.Release();
        }
    }

    private async Task<SaveReport> SaveOnceAsync(MachineFacts facts, IMachineSink sink, SaveMode mode, Func<CancellationToken, Task> whileStopped, CancellationToken cancellationToken)
    {
        // The memory that is compared with stays, even if the machine is removed while its copy is being written.
        var (shared, lease) = HoldBase();
        using var held = lease;
        using var memory = ProcessMemory.Open(_process!.Id, facts.MemoryBytes);
        if (_identity is not { IsRunning: true })
        {
            throw new IsolationException($"MicroVM {Owner.VmId} could not be saved: its process is gone.");
        }

        using var disk = OpenDisk(facts.DiskBytes);
        using var ownMemory = shared is null ? OpenMemory() : null;
        var pages = new SavedPages(memory, shared);
        await sink.BeginAsync(facts, cancellationToken);

        // Stopping writes the disk back; what is written back before need not be waited for while the machine stands still. The same goes for finding room.
        await Task.Run(() => RandomAccess.FlushToDisk(disk), cancellationToken);
        var runsOn = mode != SaveMode.StayStopped;
        var forks = mode == SaveMode.ContinueToFork && shared is not null && _origin.Sharing is not null ? sink.StateName : null;
        using var newLayer = forks is not null ? new LayerWriter() : null;
        using var room = runsOn && newLayer is null ? new SetAside(long.MaxValue, "") : null;
        using var diskRoom = runsOn ? new SetAside(DiskInMemory, Path.GetDirectoryName(_diskPath)!) : null;
        if (newLayer is not null)
        {
            await PrepareToShareAsync(cancellationToken);
        }

        if (runsOn)
        {
            await Task.Run(
                () =>
                {
                    var expected = (pages.Find(ownMemory).Sum(r => r.Count) * 9 / 8) + ((8 << 20) / ProcessMemory.Page);
                    newLayer?.Reserve(expected + (shared?.Layer?.Pages.Count ?? 0));
                    room?.Reserve(expected * ProcessMemory.Page);
                },
                cancellationToken);
        }

        var quiet = await _guest!.QuiesceAsync(cancellationToken);
        var stopped = Stopwatch.GetTimestamp();
        var runs = false;
        SharedMemoryBases.Lease? sharing = null;
        try
        {
            await _qmp!.ExecuteAsync("stop", null, cancellationToken);
            await SettleAsync(quiet, cancellationToken);

            // Before the caller writes down its executions: then the memo knows each of them.
            var memo = quiet.Remember().Encode();
            await whileStopped(cancellationToken);
            var devices = await SaveDeviceStateAsync(cancellationToken);
            var found = await Task.Run(() => pages.Find(ownMemory), cancellationToken);
            var still = TimeSpan.Zero;
            List<(long Index, int Length)>? blocks = null;
            MemoryLayer? layer = null;
            if (runsOn)
            {
                blocks = await Task.Run(
                    () =>
                    {
                        if (newLayer is not null)
                        {
                            pages.SetAside(found, newLayer);
                        }
                        else
                        {
                            pages.SetAside(found, room!);
                        }

                        return SetDiskAside(disk, shared, facts.DiskBytes, diskRoom!);
                    },
                    cancellationToken);
                if (newLayer is not null)
                {
                    layer = newLayer.Seal();
                    sharing = await ShareLayerAsync(forks!, shared! with { Layer = layer }, memory);
                }

                await ResumeAsync(quiet);
                runs = true;
                still = Stopwatch.GetElapsedTime(stopped);
            }

            await sink.WriteDevicesAsync(devices, cancellationToken);
            await sink.WriteGuestAsync(memo, cancellationToken);
            var memoryBytes = await Task.Run(() => layer is null ? pages.WriteAsync(found, room, sink, cancellationToken) : pages.WriteAsync(layer, sink, cancellationToken), cancellationToken);
            var diskBytes = await Task.Run(() => WriteDiskAsync(blocks is null ? DiskDifference.Of(disk, shared?.Golden.Disk, facts.DiskBytes) : Again(blocks, diskRoom!), sink, cancellationToken), cancellationToken);
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
        finally
        {
            sharing?.Dispose();
        }
    }

    /// <summary>
    /// Waits until nothing of a stopped machine is on its way to the host: QEMU hands over what it has, in its main loop, where it answers commands too.
    /// </summary>
    private async Task SettleAsync(GuestQuiet quiet, CancellationToken cancellationToken)
    {
        var began = Stopwatch.GetTimestamp();
        for (var still = 0; still < 2 && Stopwatch.GetElapsedTime(began) < SettleDeadline;)
        {
            var before = quiet.Received;
            await _qmp!.ExecuteAsync("query-status", null, cancellationToken);
            still = quiet.Received == before && _agentSocket!.Available == 0 ? still + 1 : 0;
        }
    }

    /// <summary>
    /// State of CPU and devices. QEMU writes it into a file that is made and kept open here: whatever QEMU puts in its place is not read.
    /// </summary>
    private async Task<byte[]> SaveDeviceStateAsync(CancellationToken cancellationToken)
    {
        var path = _directory.Migration + ".saved";
        File.Delete(path);
        try
        {
            using var file = File.OpenHandle(path, FileMode.CreateNew, FileAccess.ReadWrite, FileShare.ReadWrite);
            File.SetUnixFileMode(file, (UnixFileMode)0b110_110_110);
            await _qmp!.ExecuteAsync("xen-save-devices-state", new Dictionary<string, object> { ["filename"] = path, ["live"] = true }, cancellationToken);
            var length = RandomAccess.GetLength(file);
            if (length is 0 or > SourceRules.MaxDevices)
            {
                throw new IsolationException($"MicroVM {Owner.VmId} could not be saved: QEMU wrote {length} bytes as the state of its devices; allowed are 1 to {SourceRules.MaxDevices}.");
            }

            var devices = new byte[length];
            SparseFile.ReadFully(file, devices, 0);
            return devices;
        }
        finally
        {
            File.Delete(path);
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

    private static List<(long Index, int Length)> SetDiskAside(SafeFileHandle disk, SharedMemoryBase? shared, long length, SetAside room)
    {
        List<(long, int)> blocks = [];
        foreach (var block in DiskDifference.Of(disk, shared?.Golden.Disk, length))
        {
            blocks.Add((block.Index, block.Data.Length));
            if (!block.Data.IsEmpty)
            {
                room.Add(block.Data.Length, (span, _) => block.Data.Span.CopyTo(span));
            }
        }

        return blocks;
    }

    private static IEnumerable<MachineBlock> Again(List<(long Index, int Length)> blocks, SetAside room)
    {
        using var pieces = room.Pieces().GetEnumerator();
        foreach (var (index, length) in blocks)
        {
            yield return new MachineBlock(index, length > 0 && pieces.MoveNext() ? pieces.Current : default);
        }
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

    private async Task ResumeAsync(GuestQuiet quiet)
    {
        using var deadline = new CancellationTokenSource(ResumeDeadline);
        await _qmp!.ExecuteAsync("cont", null, deadline.Token);
        quiet.Dispose();
    }

    private async Task ResumeAfterFailureAsync(GuestQuiet quiet)
    {
        try
        {
            await ResumeAsync(quiet);
        }
        catch (Exception e) when (e is IOException or QmpException or OperationCanceledException or ObjectDisposedException)
        {
            // It died, or it will be found out by whoever asks it next.
            _logger.LogWarning(e, "MicroVM {VmId} could not be continued after a save that failed", Owner.VmId);
            quiet.Dispose();
        }
    }
}
