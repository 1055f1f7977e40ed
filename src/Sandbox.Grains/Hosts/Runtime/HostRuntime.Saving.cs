using System.Diagnostics;
using System.Text.Json;
using Microsoft.Extensions.Logging;
using Sandbox.Abstractions;
using Sandbox.Grains.Hosts.Executions;
using Sandbox.Grains.Hosts.Snapshots;
using Sandbox.Isolation.Backends;
using Sandbox.Snapshots;

namespace Sandbox.Grains.Hosts.Runtime;

/// <summary>Saving machines into the snapshot store: for a pause, and while they run on.</summary>
internal sealed partial class HostRuntime
{
    /// <summary>Names of files in a snapshot.</summary>
    private const string ExecutionsFile = "executions";
    private const string LogPrefix = "log-";

    /// <summary>Logs of executions that have ended travel with a snapshot, the newest first, until they are so many bytes or so many: a host that is lost takes the others with it.</summary>
    private const long MostArchivedBytes = 64L << 20;
    private const int MostArchivedLogs = 256;

    private static readonly TimeSpan StartsPatience = TimeSpan.FromSeconds(2);

    /// <summary>Saves a machine; see <see cref="IMicroVmGrain.SaveAsync"/>.</summary>
    public Task<MicroVmSaved> SaveMachineAsync(string vmId, long generation, MicroVmSave save)
    {
        RequireSnapshots();
        lock (_gate)
        {
            var machine = Find(vmId, generation);
            if (machine.Save is { } known && known.SnapshotId == save.SnapshotId)
            {
                return known.Task;
            }

            if (machine.Save is { Occupies: true } other)
            {
                throw SandboxException.Conflict($"Snapshot {other.SnapshotId} of microVM {vmId} is being taken; wait for it.");
            }

            var begun = new MachineSave(save.SnapshotId, save.Stop);
            machine.Save = begun;
            using (ExecutionContext.SuppressFlow())
            {
                begun.Task = Task.Run(() => SaveAsync(machine, save, begun.GivingUp.Token));
            }

            return begun.Task;
        }
    }

    /// <summary>Gives up a save and lets the machine run on; see <see cref="IMicroVmGrain.ContinueAsync"/>.</summary>
    public async Task ContinueMachineAsync(string vmId, long generation, string snapshotId)
    {
        LiveMicroVm machine;
        MachineSave? save;
        lock (_gate)
        {
            machine = Find(vmId, generation);
            save = machine.Save;
        }

        if (save?.SnapshotId != snapshotId)
        {
            return;
        }

        await save.GivingUp.CancelAsync();
        await ((Task)save.Task).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        if (save.Task.IsCompletedSuccessfully)
        {
            await RunOnAsync(machine, save.SnapshotId);
        }

        lock (_gate)
        {
            machine.Save = machine.Save == save ? null : machine.Save;
        }
    }

    /// <summary>Kills a machine whose session is paused, or has another elsewhere, and removes its disk; its outputs stay. Executions under way are not ended by it: they go on after the resume.</summary>
    public async Task DiscardMachineAsync(string sessionId, string vmId, long generation, string reason)
    {
        await StopMachineAsync(vmId, generation, reason);
        RemoveDiskOf(sessionId, generation);
    }

    /// <summary>Removes a session's disk, unless a later generation has a machine or a reservation here.</summary>
    private void RemoveDiskOf(string sessionId, long generation)
    {
        lock (_gate)
        {
            if (SandboxIds.IsSession(sessionId) && Ledger.HighestOf(sessionId) <= generation && _machines.Of(sessionId).Count == 0)
            {
                var directory = _options.SessionDirectory(sessionId);
                if (Directory.Exists(directory))
                {
                    File.Delete(Path.Combine(directory, DiskName));
                }
            }
        }
    }

    private SnapshotStore RequireSnapshots() =>
        _snapshots ?? throw new SandboxException(SandboxErrorCode.Unsupported, $"Host {HostId} has no snapshot store: sessions cannot be paused, forked or rolled back here.");

    private async Task<MicroVmSaved> SaveAsync(LiveMicroVm machine, MicroVmSave save, CancellationToken cancellationToken)
    {
        var began = Stopwatch.GetTimestamp();
        try
        {
            // What has been started and has no pump yet would be forgotten by the snapshot.
            while (Volatile.Read(ref machine.StartsUnderWay) > 0 && Stopwatch.GetElapsedTime(began) < StartsPatience)
            {
                await Task.Delay(5, cancellationToken);
            }

            if (save.Stop)
            {
                // Both ends are told now. A machine that runs on keeps its connections; a copy of it has none, as its agent ends them all when its host says hello.
                await machine.Connections.RemovePortsAsync();
                await (machine.Egress?.EndConnectionsAsync(cancellationToken) ?? Task.CompletedTask);
            }

            using var writer = await RequireSnapshots().BeginAsync(
                new SnapshotRequest(machine.Start.Tenant, save.SnapshotId, machine.SessionId, save.ParentId), cancellationToken);
            var records = new List<ExecutionRecord>();
            var report = await machine.Machine!.SaveAsync(
                writer, save.Stop ? SaveMode.StayStopped : save.Fork ? SaveMode.ContinueToFork : SaveMode.Continue, ct => WriteDownAsync(machine, save.Stop, records, ct), cancellationToken);
            await OfferGoldenAsync(machine, writer.Machine?.GoldenId, cancellationToken);
            await WriteFilesAsync(writer, machine.SessionId, records, cancellationToken);
            if (save.Stop)
            {
                // Before the snapshot exists: once it does, nobody may take these logs for dead.
                _suspended.Add(machine.SessionId, [.. records.Select(r => r.Id)]);
            }

            var info = await writer.CommitAsync(cancellationToken);
            return new MicroVmSaved
            {
                StoredBytes = info.StoredBytes,
                MemoryBytes = report.MemoryBytes,
                DiskBytes = report.DiskBytes,
                Stopped = report.Stopped,
                Duration = Stopwatch.GetElapsedTime(began),
                Executions = [.. records.Select(r => r.Id)],
                Egress = await MarkOfAsync(machine),
            };
        }
        catch (Exception e)
        {
            _logger.LogWarning(e, "MicroVM {Vm} of session {Session} could not be saved as {Snapshot}", machine.VmId, machine.SessionId, save.SnapshotId);
            if (save.Stop)
            {
                await RunOnAsync(machine, save.SnapshotId);
            }
            else
            {
                await DeleteQuietlyAsync(machine, save.SnapshotId);
            }

            throw Translate(e, $"Session {machine.SessionId} could not be saved");
        }
    }

    /// <summary>The machine stands still: what is said of its executions now is true of the state that is saved.</summary>
    private static async Task WriteDownAsync(LiveMicroVm machine, bool hold, List<ExecutionRecord> records, CancellationToken cancellationToken)
    {
        foreach (var (id, pump) in machine.Executions.ToArray())
        {
            if (await (hold ? pump.HoldAsync(id, cancellationToken) : pump.LookAsync(id, cancellationToken)) is { } record)
            {
                records.Add(record);
            }
        }
    }

    private async Task WriteFilesAsync(SnapshotWriter writer, string sessionId, List<ExecutionRecord> running, CancellationToken cancellationToken)
    {
        await writer.WriteFileAsync(ExecutionsFile, new MemoryStream(JsonSerializer.SerializeToUtf8Bytes(running)), cancellationToken);
        var left = MostArchivedBytes;
        var count = 0;
        var ended = Logs.List(sessionId).Where(id => running.TrueForAll(r => r.Id != id)).Select(id => (Id: id, Log: Logs.Find(sessionId, id)));
        var all = running.Select(r => (r.Id, Log: Logs.Find(sessionId, r.Id), Events: r.LogSeq)).Concat(ended.Where(l => l.Log is { IsComplete: true }).Select(l => (l.Id, l.Log, Events: l.Log!.LastSeq)));
        foreach (var (id, log, events) in all)
        {
            if (log is null || count == MostArchivedLogs)
            {
                continue;
            }

            using var archive = new MemoryStream();
            await LogArchive.WriteAsync(log, events, archive, cancellationToken);
            left -= archive.Length;
            if (left < 0 && !running.Exists(r => r.Id == id))
            {
                continue;
            }

            count++;
            archive.Position = 0;
            await writer.WriteFileAsync(LogPrefix + id, archive, cancellationToken);
        }
    }

    /// <summary>Undoes a save: what it stored is removed, and the machine goes on. Never fails: a machine that cannot go on is ended, which its session then hears of.</summary>
    private async Task RunOnAsync(LiveMicroVm machine, string snapshotId)
    {
        // The snapshot first: a session that runs on must not be found paused.
        await DeleteQuietlyAsync(machine, snapshotId);
        try
        {
            _suspended.Clear(machine.SessionId);
            await machine.Machine!.ContinueAsync(CancellationToken.None);
        }
        catch (Exception e)
        {
            _logger.LogError(e, "MicroVM {Vm} of session {Session} cannot go on after a save that failed", machine.VmId, machine.SessionId);
            await machine.Machine!.DisposeAsync();
        }

        foreach (var pump in machine.Executions.Values)
        {
            pump.Release();
        }
    }

    /// <summary>The machine has ended: a save of it that is still written must come to its end first. Committed after its session has forgotten it, a snapshot would stay for ever.</summary>
    private async Task EndSaveAsync(LiveMicroVm machine)
    {
        MachineSave? save;
        lock (_gate)
        {
            // From now on no other begins: the machine has ended.
            save = machine.Save;
        }

        if (save is not null)
        {
            await save.GivingUp.CancelAsync();
            await ((Task)save.Task).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }
    }

    private async Task DeleteQuietlyAsync(LiveMicroVm machine, string snapshotId)
    {
        try
        {
            await RequireSnapshots().DeleteAsync(machine.Start.Tenant, snapshotId, CancellationToken.None);
        }
        catch (SnapshotException e)
        {
            // Its session remembers the id and tries again.
            _logger.LogWarning(e, "Snapshot {Snapshot}, which was given up, could not be deleted now", snapshotId);
        }
    }

    private async Task OfferGoldenAsync(LiveMicroVm machine, string? goldenId, CancellationToken cancellationToken)
    {
        if (goldenId is not null && _exchange is not null && _options.ShareGolden)
        {
            var start = machine.Start;
            await _exchange.OfferAsync(_backends[start.Backend], _images.VersionDirectory(start.Template, start.TemplateVersion), SizesOf(start), goldenId, cancellationToken);
        }
    }

    private LiveMicroVm Find(string vmId, long generation)
    {
        if (!_machines.TryGet(vmId, out var machine) || machine.Machine is null || machine.StopReason is not null || machine.Ended.IsCompleted)
        {
            throw SandboxException.Unavailable($"MicroVM {vmId} does not run on host {HostId}.");
        }

        return machine.Generation == generation ? machine : throw SandboxException.Conflict($"MicroVM {vmId} belongs to generation {machine.Generation}, not {generation}.");
    }

    /// <summary>Faults of the store and the backend, in the words of the contracts.</summary>
    private static SandboxException Translate(Exception e, string what) => e switch
    {
        SandboxException known => known,
        SnapshotException { Kind: SnapshotErrorKind.NoSpace } => new SandboxException(SandboxErrorCode.ResourceExhausted, $"{what}: {e.Message}"),
        SnapshotException { Kind: SnapshotErrorKind.Corrupt or SnapshotErrorKind.NotFound } => new SandboxException(SandboxErrorCode.Internal, $"{what}: {e.Message}"),
        OperationCanceledException => SandboxException.Unavailable($"{what}: it was given up."),
        NotSupportedException => new SandboxException(SandboxErrorCode.Unsupported, $"{what}: {e.Message}"),
        _ => SandboxException.Unavailable($"{what}: {e.Message}"),
    };
}
