using System.Text.Json;
using Sandbox.Abstractions;
using Sandbox.Grains.Hosts.Executions;
using Sandbox.Grains.Hosts.Snapshots;
using Sandbox.Grains.Output;
using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Guest;
using Sandbox.Isolation.Images;
using Sandbox.Snapshots;

namespace Sandbox.Grains.Hosts.Runtime;

/// <summary>Bringing saved machines back, with their executions.</summary>
internal sealed partial class HostRuntime
{
    /// <summary>What a restore brought back beside the machine.</summary>
    private sealed record Restored(IReadOnlyDictionary<string, string> Executions, IReadOnlyList<string> ImportedLogs)
    {
        public static Restored Nothing { get; } = new(new Dictionary<string, string>(), []);
    }

    /// <summary>Restores a machine; all of it is verified before it runs. Whatever fails, nothing is left of it but logs that were imported.</summary>
    private async Task<Restored> RestoreMachineAsync(LiveMicroVm machine, MicroVmRestore restore, IIsolationBackend backend, MicroVmSpec spec, CancellationToken cancellationToken)
    {
        var store = RequireSnapshots();
        var start = machine.Start;
        if (restore.CopyOf is { } source)
        {
            await store.CopyAsync(start.Tenant, source, restore.SnapshotId, start.SessionId, cancellationToken);
        }

        using var reader = await store.OpenAsync(start.Tenant, restore.SnapshotId, cancellationToken);
        await RequireFitAsync(backend, spec.ImageDirectory, SizesOf(start), reader, cancellationToken);
        List<ExecutionRecord> going = [.. (await ReadExecutionsAsync(reader, cancellationToken)).Where(r => restore.Executions.ContainsKey(r.Id))];
        var ids = going.ConvertAll(r => IdOf(start.SessionId, r, restore.Executions[r.Id]));
        foreach (var id in ids)
        {
            // Before their logs are there: a reader that finds a log without a writer takes it for dead.
            _pumped[id] = 0;
        }

        try
        {
            var imported = restore.ImportLogs ? await ImportLogsAsync(reader, start.SessionId, cancellationToken) : [];
            machine.Machine = await StartNewAsync(
                backend,
                spec with { Restore = new MachineRestore(reader, [.. going.Select(r => new RestoredExecution(r.GuestId, r.GuestSeq))], restore.CopyOf, restore.Siblings) },
                cancellationToken);
            for (var i = 0; i < going.Count; i++)
            {
                Attach(machine, going[i], ids[i], await LogOfAsync(reader, start.SessionId, going[i], ids[i], cancellationToken), machine.Machine.Survivors[i]);
            }

            _suspended.Clear(start.SessionId);
            return new Restored(going.Zip(ids).ToDictionary(p => p.Second, p => p.First.Id, StringComparer.Ordinal), imported);
        }
        catch
        {
            foreach (var id in ids.Where(id => !machine.Pumps.ContainsKey(id)))
            {
                _pumped.TryRemove(id, out _);
            }

            throw;
        }
    }

    private async Task RequireFitAsync(IIsolationBackend backend, string image, TemplateSizes sizes, SnapshotReader reader, CancellationToken cancellationToken)
    {
        var facts = reader.Facts;
        var fit = await backend.FitAsync(image, sizes, facts, cancellationToken);
        if (fit == RestoreFit.NeedsGolden && facts.GoldenId is { } golden && _exchange is { } exchange)
        {
            await exchange.FetchAsync(backend, image, sizes, golden, cancellationToken);
            fit = await backend.FitAsync(image, sizes, facts, cancellationToken);
        }

        if (fit != RestoreFit.Ready)
        {
            throw SandboxException.Unavailable(
                $"Snapshot {reader.Info.SnapshotId} cannot be restored on host {HostId}: it was saved by {facts.Backend} {facts.Fingerprint}, and this host has "
                + (fit == RestoreFit.NeedsGolden ? $"not its golden snapshot {facts.GoldenId}." : "another VMM, processor, image or size."));
        }
    }

    private static async Task<List<ExecutionRecord>> ReadExecutionsAsync(SnapshotReader reader, CancellationToken cancellationToken)
    {
        using var json = new MemoryStream();
        await reader.ReadFileAsync(ExecutionsFile, json, cancellationToken);
        return JsonSerializer.Deserialize<List<ExecutionRecord>>(json.ToArray()) ?? [];
    }

    /// <summary>Logs that this host does not have. One that has no exit gets it from the session, which knows what became of it.</summary>
    private async Task<IReadOnlyList<string>> ImportLogsAsync(SnapshotReader reader, string sessionId, CancellationToken cancellationToken)
    {
        var imported = new List<string>();
        foreach (var file in reader.Info.Files.Where(f => f.StartsWith(LogPrefix, StringComparison.Ordinal)))
        {
            var id = file[LogPrefix.Length..];
            if (SandboxIds.IsExecution(id) && Logs.Find(sessionId, id) is not { LastSeq: > 0 })
            {
                await ImportAsync(reader, Logs.Create(sessionId, id), id, cancellationToken);
                imported.Add(id);
            }
        }

        return imported;
    }

    private static async Task ImportAsync(SnapshotReader reader, IOutputLog log, string id, CancellationToken cancellationToken)
    {
        using var archive = new MemoryStream();
        await reader.ReadFileAsync(LogPrefix + id, archive, cancellationToken);
        LogArchive.Append(archive.GetBuffer().AsMemory(0, (int)archive.Length), log);
    }

    /// <summary>The id asked for, or a fresh one where its log has been written to since the snapshot: an earlier attempt to restore it had run, and nobody heard of it.</summary>
    private string IdOf(string sessionId, ExecutionRecord record, string id) =>
        id == record.Id && Logs.Find(sessionId, id) is { } log && (log.IsComplete || log.LastSeq > record.LogSeq) ? SandboxIds.NewExecution() : id;

    /// <summary>The log that a restored execution goes on in: its own, brought to where the snapshot stands, or a new one that says whose continuation it is.</summary>
    private async Task<IOutputLog> LogOfAsync(SnapshotReader reader, string sessionId, ExecutionRecord record, string id, CancellationToken cancellationToken)
    {
        var log = Logs.Create(sessionId, id);
        if (id != record.Id)
        {
            var text = $"Continues execution {record.Id}, from its event {record.LogSeq} on.";
            log.Append([new PendingEvent(OutputKind.Notice, _clock.GetUtcNow(), System.Text.Encoding.UTF8.GetBytes(text))]);
            return log;
        }

        if (log.LastSeq < record.LogSeq)
        {
            await ImportAsync(reader, log, id, cancellationToken);
        }

        return log;
    }

    private void Attach(LiveMicroVm machine, ExecutionRecord record, string id, IOutputLog log, IGuestExecution guest)
    {
        var publisher = OutputPublisher.ForStream(Streams, id, _logger);
        StartPump(machine, id, new ExecutionPump(guest, log, publisher, CollectorOf(machine), record.ToFacts(), record, machine.Ended, _clock, _logger), publisher);
    }

    private static TemplateSizes SizesOf(MicroVmStart start) => new() { Vcpus = start.Vcpus, MemoryMiB = start.MemoryMiB, DiskMiB = start.DiskMiB };
}
