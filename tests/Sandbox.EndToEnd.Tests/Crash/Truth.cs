using Sandbox.EndToEnd.Tests.Harness;

namespace Sandbox.EndToEnd.Tests.Crash;

/// <summary>What must be true of a server and its data directory whenever it was killed before.</summary>
internal sealed class Truth(CrashTarget target, Workload workload, SandboxServer server)
{
    private static readonly string[] States = ["creating", "running", "pausing", "paused", "resuming", "terminated", "failed"];
    private readonly CrashClient _client = workload.Client;

    /// <summary>No two machines of a session; every session is there and in a state that it may be in.</summary>
    public async Task LookQuicklyAsync()
    {
        RequireNoViolations();
        foreach (var session in workload.Sessions)
        {
            await LookAtAsync(session);
        }
    }

    /// <summary>All that can be said while sessions go on.</summary>
    public async Task LookAsync()
    {
        var states = await SettleAsync();
        await EventuallyNothingAsync(async () => [.. (await LeftoversAsync(states))]);
        foreach (var session in workload.Sessions.Where(s => !s.Deleting))
        {
            await CheckpointsAreThereAsync(session);
            await workload.LookAtOutputsAsync(session);
        }

        RequireNoViolations();
    }

    /// <summary>Every session comes back with what it had, and every execution comes to an end that it may have.</summary>
    public async Task BringAllBackAsync()
    {
        await AdoptAsync();
        foreach (var session in workload.Sessions.Where(s => !s.Deleting))
        {
            if (await LookAtAsync(session) == "paused")
            {
                await workload.ResumeAsync(session);
            }

            await workload.GetAsync(session);
            await workload.GetAsync(session);
            if (await LookAtAsync(session) is var state and not "running")
            {
                throw new CrashViolationException($"Session {session.Id} is {state} and does not come back.", session);
            }

            await ExecutionsEndAsync(session);
            foreach (var checkpoint in session.Checkpoints.TakeLast(target.CheckpointsTried).ToList())
            {
                var answer = await _client.PostAsync($"/v1/sessions/{session.Id}/checkpoints/{checkpoint.Id}/rollback?wait=20", session: session);
                if (answer.State != "running")
                {
                    throw new CrashViolationException($"Session {session.Id} cannot go back to checkpoint {checkpoint.Id}: {answer}", session);
                }

                session.RolledBack(checkpoint, acknowledged: true);
                await workload.GetAsync(session);
            }
        }

        RequireNoViolations();
    }

    /// <summary>When all sessions are removed nothing of them is left anywhere.</summary>
    public async Task RemoveAllAsync()
    {
        foreach (var session in workload.Sessions.Where(s => !s.Deleted))
        {
            await workload.DeleteAsync(session);
            if (!session.Deleted)
            {
                throw new CrashViolationException($"Session {session.Id} cannot be removed.", session);
            }
        }

        foreach (var session in workload.Sessions)
        {
            await LookAtAsync(session);
        }

        await EventuallyNothingAsync(async () =>
        [
            .. (await _client.GetAsync("/v1/sessions?limit=1000")).Body["sessions"]!.AsArray().Select(s => $"session {s!["id"]} is listed: {s["state"]}"),
            .. target.Machines(server.ProcessId).Select(m => $"session {m.Session}: {m.What}"),
            .. Manifests().Select(m => $"snapshot {m} is there"),
            .. EntriesOf("sessions").Concat(EntriesOf("outputs")).Select(d => $"{d} is there"),
        ]);
        RequireNoViolations();
    }

    private async Task<string> LookAtAsync(KnownSession session)
    {
        var wakings = session.Wakings;
        var asleep = session.Asleep;
        var answer = await _client.GetAsync($"/v1/sessions/{session.Id}", session);
        var state = answer.Status == 404 ? "gone" : answer.State;
        if (answer.Outcome == Outcome.Unknown)
        {
            throw new CrashViolationException($"Session {session.Id} cannot be looked at: {answer}", session);
        }

        session.Deleted |= session.Deleting && state == "terminated";
        var allowed = session.Deleted ? state is "terminated" or "gone"
            : session.Deleting ? state is not "failed"
            : asleep ? state == "paused"
            : state is not ("failed" or "terminated" or "gone") && States.Contains(state);
        if (!allowed)
        {
            throw new CrashViolationException($"Session {session.Id} is {state} ({answer.Body["cause"]}){(asleep ? ", was paused, and nobody has woken it" : "")}.", session);
        }

        if (state == "paused")
        {
            session.SawPaused(wakings);
        }

        session.HasRun |= state is "running";
        return state;
    }

    /// <summary>Every session leaves the states in which something is under way.</summary>
    private async Task<Dictionary<string, string>> SettleAsync()
    {
        var deadline = DateTime.UtcNow + target.Patience;
        while (true)
        {
            var states = new Dictionary<string, string>(StringComparer.Ordinal);
            foreach (var session in workload.Sessions)
            {
                states[session.Id] = await LookAtAsync(session);
            }

            var unsettled = workload.Sessions.FirstOrDefault(s => states[s.Id] is "creating" or "pausing" or "resuming");
            if (unsettled is null)
            {
                return states;
            }

            if (DateTime.UtcNow > deadline)
            {
                throw new CrashViolationException($"Session {unsettled.Id} is {states[unsettled.Id]} still, {target.Patience.TotalSeconds:0} s after the server was ready.", unsettled);
            }

            await Task.Delay(50);
        }
    }

    private async Task<List<string>> LeftoversAsync(Dictionary<string, string> states)
    {
        var found = new List<string>();
        foreach (var (session, what) in target.Machines(server.ProcessId))
        {
            // A machine without a session is nobody's in any case.
            if (await StateOfAsync(session) is var state and not ("running" or "creating"))
            {
                found.Add($"session {session} is {(state.Length > 0 ? state : "nobody's")}, and {what}");
            }
        }

        foreach (var directory in EntriesOf("sessions"))
        {
            var session = Path.GetFileName(directory);
            var state = await StateOfAsync(session);
            if (state is "terminated" or "gone" || (state == "paused" && File.Exists(Path.Combine(directory, "disk.img"))))
            {
                found.Add($"session {session} is {state}, and there is {string.Join(", ", Directory.EnumerateFileSystemEntries(directory).Prepend(directory))}");
            }
        }

        return found;

        async Task<string> StateOfAsync(string session)
        {
            if (!states.TryGetValue(session, out var state))
            {
                // One that we had no answer about.
                var answer = await _client.GetAsync($"/v1/sessions/{session}");
                states[session] = state = answer.Status == 404 ? "gone" : answer.State;
            }

            return state;
        }
    }

    private async Task CheckpointsAreThereAsync(KnownSession session)
    {
        var answer = await _client.GetAsync($"/v1/sessions/{session.Id}/checkpoints", session);
        var manifests = Manifests().ToHashSet(StringComparer.Ordinal);
        var named = answer.Body["checkpoints"]!.AsArray().Select(c => c!["id"]!.ToString()).ToHashSet(StringComparer.Ordinal);
        if (named.FirstOrDefault(c => !manifests.Contains(c)) is { } lost)
        {
            throw new CrashViolationException($"Session {session.Id} has checkpoint {lost}, whose snapshot is not in the store.", session);
        }

        if (session.Checkpoints.Find(c => !named.Contains(c.Id)) is { } forgotten)
        {
            throw new CrashViolationException($"Checkpoint {forgotten.Id} of session {session.Id} was acknowledged, and the session does not know it.", session);
        }
    }

    /// <summary>Each is read to its exit; the session says of it what its log says.</summary>
    private async Task ExecutionsEndAsync(KnownSession session)
    {
        var listed = await _client.GetAsync($"/v1/sessions/{session.Id}/executions?limit=1000", session);
        foreach (var continuation in listed.Body["executions"]!.AsArray().Where(e => e!["continuedFrom"] is not null && session.Executions.TrueForAll(k => k.Id != e["id"]!.ToString())))
        {
            var title = continuation!["title"]!.ToString();
            if (target.IsCount(title))
            {
                session.Executions.Add(new KnownExecution(continuation["id"]!.ToString(), target.LinesIn(title)) { IsContinuation = true });
            }
        }

        var deadline = DateTime.UtcNow + target.Patience;
        for (; session.Executions.Exists(e => e.Exit is null); await Task.Delay(50))
        {
            await workload.LookAtOutputsAsync(session);
            if (DateTime.UtcNow > deadline && session.Executions.Find(e => e.Exit is null) is { } endless)
            {
                throw new CrashViolationException($"Execution {endless.Id} of session {session.Id} neither ends nor is lost.", session);
            }
        }

        await EventuallyNothingAsync(async () =>
        {
            var found = new List<string>();
            foreach (var execution in session.Executions)
            {
                var info = await _client.GetAsync($"/v1/sessions/{session.Id}/executions/{execution.Id}", session);
                if (info.Body["exit"]?["reason"]?.ToString() != execution.Exit!["reason"]!.ToString())
                {
                    found.Add($"execution {execution.Id} of session {session.Id} ended as {execution.Exit}, and the session says {info.Body}");
                }
            }

            return found;
        });
    }

    /// <summary>Sessions whose making was not answered are there or not; those that are there are as good as the others.</summary>
    private async Task AdoptAsync()
    {
        foreach (var session in (await _client.GetAsync("/v1/sessions?limit=1000")).Body["sessions"]!.AsArray())
        {
            var id = session!["id"]!.ToString();
            if (workload.Sessions.All(s => s.Id != id))
            {
                workload.Adopt(id).Forget();
            }
        }
    }

    private IEnumerable<string> Manifests() => Directory.Exists(Path.Combine(target.DataDirectory, "snapshots"))
        ? Directory.EnumerateFiles(Path.Combine(target.DataDirectory, "snapshots"), "*", SearchOption.AllDirectories)
            .Where(f => Path.GetFileName(Path.GetDirectoryName(f)) == "snapshots" && Path.GetFileName(f).StartsWith("chk_", StringComparison.Ordinal)).Select(f => Path.GetFileName(f)!)
        : [];

    private IEnumerable<string> EntriesOf(string folder) => Directory.Exists(Path.Combine(target.DataDirectory, folder)) ? Directory.EnumerateDirectories(Path.Combine(target.DataDirectory, folder), "ses_*") : [];

    private void RequireNoViolations()
    {
        if (target.Violations() is { } violations)
        {
            throw new CrashViolationException("Two machines of one session lived at once: " + violations);
        }
    }

    private async Task EventuallyNothingAsync(Func<Task<List<string>>> look)
    {
        var deadline = DateTime.UtcNow + target.Patience;
        while (await look() is { Count: > 0 } found)
        {
            if (DateTime.UtcNow > deadline)
            {
                throw new CrashViolationException("What must not be there:\n" + string.Join('\n', found), workload.Sessions.FirstOrDefault(s => found[0].Contains(s.Id, StringComparison.Ordinal)));
            }

            await Task.Delay(100);
        }
    }
}
