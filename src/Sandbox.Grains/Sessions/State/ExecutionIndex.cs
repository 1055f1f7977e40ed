using Sandbox.Abstractions;

namespace Sandbox.Grains.Sessions.State;

/// <summary>
/// The executions of a session: the newest 1000, durable. Recent ones are in one small document; ended ones move in runs to the archive, so that
/// the cost of a write does not grow with the session's age.
/// </summary>
internal sealed class ExecutionIndex(Durable<ExecutionsDocument> recent, Durable<ExecutionArchive> archive)
{
    /// <summary>Most executions remembered.</summary>
    public const int Capacity = 1000;

    /// <summary>How many move to the archive together.</summary>
    public const int ArchiveRun = 64;

    private const int MaxArgvLength = 4096;
    private Task? _archiveRead;

    /// <summary>Reads what is stored: nothing of it need be there, and then nothing more is read.</summary>
    public async Task LoadAsync()
    {
        await recent.ReadAsync();
        if (recent.Current.HasArchive)
        {
            await ReadArchiveAsync();
        }
    }

    public IReadOnlyList<IdempotencyRecord> Keys => recent.Current.Keys;

    public IEnumerable<ExecutionInfo> Running => recent.Current.Entries.Where(e => e.State != ExecutionState.Ended);

    public bool HasRunning => recent.Current.Entries.Exists(e => e.State != ExecutionState.Ended);

    public ExecutionInfo? Find(string id) => recent.Current.Entries.Find(e => e.Id == id) ?? archive.Current.Entries.Find(e => e.Id == id);

    /// <summary>Newest first.</summary>
    public IReadOnlyList<ExecutionInfo> List(int limit)
    {
        var recentIds = recent.Current.Entries.Select(e => e.Id).ToHashSet(StringComparer.Ordinal);
        return [.. Enumerable.Reverse(recent.Current.Entries)
            .Concat(Enumerable.Reverse(archive.Current.Entries).Where(e => !recentIds.Contains(e.Id)))
            .Take(Math.Min(limit, Capacity))];
    }

    public Task AddAsync(ExecutionInfo execution, string? key, string fingerprint) => recent.UpdateAsync(d => d with
    {
        Entries = [.. d.Entries, execution],
        Keys = Idempotency.Add(d.Keys, key, "startExecution", fingerprint, execution.Id),
    });

    /// <summary>Changes entries that have not ended; those that have are final.</summary>
    public async Task ChangeAsync(Func<ExecutionInfo, ExecutionInfo> change)
    {
        await recent.UpdateAsync(d =>
        {
            var next = d.Entries.ConvertAll(e => e.State == ExecutionState.Ended ? e : WithoutArgvOnceEnded(change(e)));
            return next.SequenceEqual(d.Entries) ? d : d with { Entries = next };
        });
        await ArchiveAsync();
    }

    /// <summary>Adds executions that go on from others.</summary>
    public Task AddAsync(IReadOnlyList<ExecutionInfo> executions) =>
        executions.Count == 0 ? Task.CompletedTask : recent.UpdateAsync(d => d with { Entries = [.. d.Entries, .. executions] });

    /// <summary>Notes that the logs of executions are on another host now.</summary>
    public async Task RelocateAsync(IReadOnlyCollection<string> ids, string host)
    {
        if (ids.Count == 0)
        {
            return;
        }

        List<ExecutionInfo> Moved(List<ExecutionInfo> entries) => entries.ConvertAll(e => ids.Contains(e.Id) ? e with { HostId = host } : e);
        await recent.UpdateAsync(d => Moved(d.Entries) is var next && next.SequenceEqual(d.Entries) ? d : d with { Entries = next });
        if (recent.Current.HasArchive)
        {
            await archive.UpdateAsync(d => Moved(d.Entries) is var next && next.SequenceEqual(d.Entries) ? d : d with { Entries = next });
        }
    }

    /// <summary>Notes that an execution runs. Its end may have been noted first: that stays, and only the process id is added.</summary>
    public Task BegunAsync(ExecutionInfo running) => recent.UpdateAsync(d =>
    {
        var next = d.Entries.ConvertAll(e => e.Id != running.Id ? e : e.State == ExecutionState.Ended ? e with { Pid = running.Pid } : running);
        return next.SequenceEqual(d.Entries) ? d : d with { Entries = next };
    });

    public async Task ClearAsync()
    {
        // A crash between the two writes of a move leaves an archive that nothing points to.
        await ReadArchiveAsync();
        await recent.ClearAsync();
        await archive.ClearAsync();
    }

    /// <summary>As much of a command as is remembered: the index is written at each start and end.</summary>
    public static IReadOnlyList<string>? Clip(IReadOnlyList<string>? argv)
    {
        if (argv is null)
        {
            return null;
        }

        var room = MaxArgvLength;
        var kept = new List<string>();
        foreach (var argument in argv)
        {
            if (argument.Length > room)
            {
                kept.Add(argument[..room] + "…");
                break;
            }

            kept.Add(argument);
            room -= argument.Length + 1;
            if (room <= 0)
            {
                break;
            }
        }

        return kept;
    }

    private static ExecutionInfo WithoutArgvOnceEnded(ExecutionInfo e) => e is { State: ExecutionState.Ended, Argv: not null } ? e with { Argv = null } : e;

    private async Task ArchiveAsync()
    {
        if (recent.Current.Entries.Count(e => e.State == ExecutionState.Ended) < 2 * ArchiveRun)
        {
            return;
        }

        var run = recent.Current.Entries.Where(e => e.State == ExecutionState.Ended).Take(ArchiveRun).ToList();
        var ids = run.Select(e => e.Id).ToHashSet(StringComparer.Ordinal);

        await ReadArchiveAsync();

        // Archive first: a crash in between leaves them in both, which readers tell apart; the other order would lose them.
        await archive.UpdateAsync(d =>
        {
            var all = d.Entries.Where(e => !ids.Contains(e.Id)).Concat(run).ToList();
            return d with { Entries = [.. all.Skip(Math.Max(0, all.Count - (Capacity - ArchiveRun)))] };
        });
        await recent.UpdateAsync(d => d with { Entries = [.. d.Entries.Where(e => !ids.Contains(e.Id))], HasArchive = true });
    }

    private async Task ReadArchiveAsync()
    {
        var read = _archiveRead ??= archive.ReadAsync();
        try
        {
            await read;
        }
        catch
        {
            _archiveRead = null;
            throw;
        }
    }
}
