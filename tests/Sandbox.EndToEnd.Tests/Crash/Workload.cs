using System.Collections.Concurrent;
using System.Globalization;
using System.Text;
using System.Text.Json.Nodes;

namespace Sandbox.EndToEnd.Tests.Crash;

/// <summary>Callers that do this and that with sessions until the server is killed under them, and remember what they were told.</summary>
internal sealed class Workload(CrashTarget target, CrashClient client, Random random)
{
    private readonly ConcurrentDictionary<string, KnownSession> _sessions = new(StringComparer.Ordinal);
    private readonly ConcurrentDictionary<string, int> _done = new(StringComparer.Ordinal);
    private readonly ConcurrentDictionary<string, int> _broken = new(StringComparer.Ordinal);
    private readonly ConcurrentBag<string> _unansweredCreates = [];
    private readonly ConcurrentBag<(KnownSession Session, string Key)> _unansweredForks = [];
    private CancellationTokenSource _life = new();
    private KillPlan _plan = target.Plan(random);
    private List<Task> _workers = [];
    private int _value;
    private int _serial;

    /// <summary>All sessions that we know of, deleted ones too.</summary>
    public IReadOnlyList<KnownSession> Sessions => [.. _sessions.Values];

    public CrashClient Client => client;

    public string Summary => $"answered: {Words(_done)}; cut off: {Words(_broken)}";

    /// <summary>Works until the plan says that the server is to be killed. Calls under way are left to break.</summary>
    public async Task LiveAsync()
    {
        _plan = target.Plan(random);
        _life = new CancellationTokenSource();
        _workers = [.. Enumerable.Range(0, target.Workers).Select(_ => Task.Run(WorkAsync))];
        var failed = Task.WhenAny(_workers.Select(FaultAsync));
        await _plan.WaitAsync(failed);

        // The last moment: what is under way is killed with the server, and nothing is begun that could not reach it.
        await _life.CancelAsync();
        if (failed.IsCompleted)
        {
            await Task.WhenAll(_workers);
        }
    }

    /// <summary>The server is dead: what lived in it is gone.</summary>
    public async Task OnKilledAsync()
    {
        await Task.WhenAll(_workers);
        _workers = [];
        _life.Dispose();
        foreach (var session in _sessions.Values)
        {
            session.OnKilled();
        }
    }

    /// <summary>A session that we had no answer about.</summary>
    public KnownSession Adopt(string id) => _sessions.GetOrAdd(id, i => new KnownSession(i));

    private static async Task FaultAsync(Task worker)
    {
        await worker.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        if (!worker.IsFaulted)
        {
            await Task.Delay(Timeout.Infinite);
        }
    }

    private async Task WorkAsync()
    {
        while (!_life.IsCancellationRequested)
        {
            var living = _sessions.Values.Where(s => !s.Deleted).ToList();
            if (living.Count == 0 || (living.Count < target.MostSessions && Chance(6)))
            {
                await CreateAsync();
                continue;
            }

            var session = living[Next(living.Count)];
            if (await session.Turn.WaitAsync(TimeSpan.Zero))
            {
                try
                {
                    await ActAsync(session, living.Count);
                }
                finally
                {
                    session.Turn.Release();
                }
            }
            else if (Chance(3))
            {
                await DisturbAsync(session);
            }
            else
            {
                await Task.Delay(5);
            }
        }
    }

    private Task ActAsync(KnownSession session, int living) => session.Deleting ? DeleteAsync(session) : session.Asleep ? ActAsleepAsync(session) : Next(100) switch
    {
        < 16 => SetAsync(session),
        < 22 => GetAsync(session),
        < 50 => PauseAsync(session),
        < 58 => CountAsync(session),
        < 68 => CheckpointAsync(session),
        < 74 => RollBackAsync(session),
        < 84 => living < target.MostSessions ? ForkAsync(session) : PauseAsync(session),
        < 90 => WriteFileAsync(session),
        < 93 => LookAtOutputsAsync(session),
        < 95 => ResumeAsync(session),
        _ => living > target.MostSessions / 2 && MayDelete(session) ? DeleteAsync(session) : GetAsync(session),
    };

    private Task ActAsleepAsync(KnownSession session) => Next(100) switch
    {
        < 60 => ResumeAsync(session),
        < 72 => GetAsync(session),
        < 80 => RollBackAsync(session),
        < 86 => CountAsync(session),
        < 92 => LookAtOutputsAsync(session),
        < 95 => MayDelete(session) ? DeleteAsync(session) : ResumeAsync(session),
        _ => PauseAsync(session),
    };

    /// <summary>Something beside what another caller does with the same session. It changes nothing that we keep account of.</summary>
    private async Task DisturbAsync(KnownSession session)
    {
        var path = $"/v1/sessions/{session.Id}/{(Next(3) switch { 0 => "pause", 1 => "resume", _ => "checkpoints" })}";
        using var waking = session.Waking();
        await client.PostAsync(path, session: session);
    }

    private async Task CreateAsync()
    {
        var key = _unansweredCreates.TryTake(out var before) ? before : $"key-{Interlocked.Increment(ref _serial)}";
        var answer = await OperateAsync("create", () => client.PostAsync("/v1/sessions?wait=20", target.NewSession(), key));
        if (!answer.Done)
        {
            _unansweredCreates.Add(key);
            return;
        }

        var session = _sessions.GetOrAdd(answer.Body["id"]!.ToString(), id => new KnownSession(id));
        session.Note($"created: {answer}");
        Count("create");
        RequireAlive(session, answer.State);
    }

    public async Task SetAsync(KnownSession session)
    {
        var value = Interlocked.Increment(ref _value);
        session.Note($"setting the variable to {value}");
        var (output, ran) = await RunAsync(session, target.Set(value));
        if (ran)
        {
            session.SetVariable(value, acknowledged: output is not null && ExitOf(output) is { } exit && exit["reason"]!.ToString() == "exited");
            Count("set");
        }
    }

    public async Task GetAsync(KnownSession session)
    {
        if ((await RunAsync(session, target.Get())).Output is { } output && ExitOf(output) is { } exit && exit["reason"]!.ToString() == "exited")
        {
            var value = target.ValueIn(output) ?? KnownSession.Absent;
            session.Note($"the variable is {value}");
            session.Read(session.Variable, value, "variable");
            Count("get");
        }

        await ReadFileAsync(session);
    }

    public async Task ReadFileAsync(KnownSession session)
    {
        using var waking = session.Waking();
        var answer = await client.GetAsync($"/v1/sessions/{session.Id}/files/content?path={target.FilePath}", session);
        if (answer.Done || answer.Status == 404)
        {
            session.Read(session.File, answer.Done ? int.Parse(answer.Body["text"]!.ToString(), CultureInfo.InvariantCulture) : KnownSession.Absent, "file");
        }
    }

    private async Task WriteFileAsync(KnownSession session)
    {
        var value = Interlocked.Increment(ref _value);
        using var waking = session.Waking();
        var answer = await client.PutAsync($"/v1/sessions/{session.Id}/files/content?path={target.FilePath}", Encoding.ASCII.GetBytes($"{value}"), session);
        session.Note($"the file was to be {value}");
        if (answer.Outcome != Outcome.Refused)
        {
            session.SetFile(value, answer.Done);
        }
    }

    private async Task PauseAsync(KnownSession session)
    {
        var wakings = session.Wakings;
        var answer = await OperateAsync("pause", () => client.PostAsync($"/v1/sessions/{session.Id}/pause?wait=20", session: session));
        if (answer.Done)
        {
            RequireAlive(session, answer.State);
            if (answer.State == "paused")
            {
                session.SawPaused(wakings);
                Count("pause");
            }
        }
    }

    public async Task ResumeAsync(KnownSession session)
    {
        using var waking = session.Waking();
        var answer = await OperateAsync("resume", () => client.PostAsync($"/v1/sessions/{session.Id}/resume?wait=20", session: session));
        if (answer.Done)
        {
            RequireAlive(session, answer.State);
            Count("resume");
        }
    }

    private async Task CountAsync(KnownSession session)
    {
        var lines = Next(5, 60);
        using var waking = session.Waking();
        var answer = await OperateAsync("execution", () => client.PostAsync($"/v1/sessions/{session.Id}/executions", target.Count(lines, Next(2, 30)), session: session));
        if (answer.Done)
        {
            lock (session.Executions)
            {
                session.Executions.Add(new KnownExecution(answer.Body["id"]!.ToString(), lines));
            }

            Count("execution");
        }
    }

    private async Task CheckpointAsync(KnownSession session)
    {
        using var waking = session.Waking();
        var answer = await OperateAsync("checkpoint", () => client.PostAsync($"/v1/sessions/{session.Id}/checkpoints", new JsonObject { ["name"] = $"c{Interlocked.Increment(ref _serial)}" }, session: session));
        if (answer.Done)
        {
            session.Checkpoints.Add(new KnownCheckpoint(answer.Body["id"]!.ToString(), [.. session.Variable], [.. session.File]));
            Count("checkpoint");
        }
    }

    private async Task RollBackAsync(KnownSession session)
    {
        if (session.Checkpoints.Count == 0)
        {
            return;
        }

        var to = session.Checkpoints[Next(session.Checkpoints.Count)];
        using var waking = session.Waking();
        var answer = await OperateAsync("rollback", () => client.PostAsync($"/v1/sessions/{session.Id}/checkpoints/{to.Id}/rollback?wait=20", session: session));
        if (answer.Status == 404)
        {
            throw new CrashViolationException($"Checkpoint {to.Id} of session {session.Id} was acknowledged and is not there: {answer}", session);
        }

        if (answer.Outcome != Outcome.Refused)
        {
            session.RolledBack(to, answer.State == "running");
            Count("rollback");
        }
    }

    private async Task ForkAsync(KnownSession session)
    {
        var again = _unansweredForks.TryTake(out var before) && before.Session == session;
        if (before.Key is not null && !again)
        {
            _unansweredForks.Add(before);
        }

        using var waking = session.Waking();
        var key = again ? before.Key! : $"fork-{Interlocked.Increment(ref _serial)}";
        var answer = await OperateAsync("fork", () => client.PostAsync($"/v1/sessions/{session.Id}/fork?wait=20", new JsonObject { ["count"] = 2 }, key, session));
        if (answer.Outcome == Outcome.Unknown)
        {
            _unansweredForks.Add((session, key));
        }

        if (!answer.Done)
        {
            return;
        }

        foreach (var made in answer.Body["sessions"]!.AsArray())
        {
            // What a repeated call finds was made earlier, of what we no longer know.
            var id = made!["id"]!.ToString();
            var child = _sessions.GetOrAdd(id, i => again ? new KnownSession(i) { Parent = session } : session.Fork(i));
            if (again)
            {
                child.Forget();
            }

            child.Note($"forked from {session.Id}: {made["state"]}");
            RequireAlive(child, made["state"]!.ToString());
        }

        Count("fork");
    }

    public async Task DeleteAsync(KnownSession session)
    {
        using var waking = session.Waking();
        session.Deleting = true;
        var answer = await OperateAsync("delete", () => client.DeleteAsync($"/v1/sessions/{session.Id}", session));
        if (answer.Done)
        {
            session.Deleted = true;
            Count("delete");
        }
    }

    /// <summary>Reads on in all outputs of a session; from the beginning again, now and then.</summary>
    public async Task LookAtOutputsAsync(KnownSession session)
    {
        KnownExecution[] all;
        lock (session.Executions)
        {
            all = [.. session.Executions];
        }

        foreach (var execution in all)
        {
            var from = Chance(3) ? 1 : execution.Next;
            var answer = await client.GetAsync($"/v1/sessions/{session.Id}/executions/{execution.Id}/output?from={from}", session);
            if (answer.Done)
            {
                execution.Take(from, answer.Body, session);
            }
            else if (answer.Outcome == Outcome.Refused && !session.Deleting)
            {
                throw new CrashViolationException($"Execution {execution.Id} was acknowledged, and its output cannot be read: {answer}", session);
            }
        }
    }

    /// <summary>Runs something to its end. No output: it is not known what became of it.</summary>
    private async Task<(JsonNode? Output, bool Ran)> RunAsync(KnownSession session, JsonObject what)
    {
        using var waking = session.Waking();
        var started = await client.PostAsync($"/v1/sessions/{session.Id}/executions", what, session: session);
        if (!started.Done)
        {
            return (null, started.Outcome == Outcome.Unknown);
        }

        for (var deadline = DateTime.UtcNow.AddSeconds(20); DateTime.UtcNow < deadline; await Task.Delay(10))
        {
            var page = await client.GetAsync($"/v1/sessions/{session.Id}/executions/{started.Body["id"]}/output", session);
            if (!page.Done || ExitOf(page.Body) is not null)
            {
                return (page.Done ? page.Body : null, true);
            }
        }

        return (null, true);
    }

    private static JsonNode? ExitOf(JsonNode page) => page["events"]?.AsArray().FirstOrDefault(e => e!["kind"]!.ToString() == "exit");

    private static string Words(IEnumerable<KeyValuePair<string, int>> counts) => string.Join(", ", counts.OrderBy(d => d.Key, StringComparer.Ordinal).Select(d => $"{d.Key} {d.Value}"));

    private static void RequireAlive(KnownSession session, string state)
    {
        if (state is "failed" or "terminated" && !session.Deleting)
        {
            throw new CrashViolationException($"Session {session.Id} is {state}, and nobody has ended it.", session);
        }

        session.HasRun |= state is "running";
    }

    /// <summary>A fork that has not come up needs its parent's checkpoint still.</summary>
    private bool MayDelete(KnownSession session) =>
        _sessions.Values.All(s => s.Parent != session || s.HasRun || s.Deleted) && !_unansweredForks.Any(f => f.Session == session);

    private void Count(string what) => _done.AddOrUpdate(what, 1, (_, n) => n + 1);

    /// <summary>An operation that is worth killing the server in begins; notes how many were.</summary>
    private async Task<Answer> OperateAsync(string what, Func<Task<Answer>> operate)
    {
        _plan.OnOperation();
        var answer = await operate();
        if (answer.Outcome == Outcome.Unknown)
        {
            _broken.AddOrUpdate(what, 1, (_, n) => n + 1);
        }

        return answer;
    }

    private bool Chance(int oneIn) => Next(oneIn) == 0;

    private int Next(int below) => Next(0, below);

    private int Next(int from, int below)
    {
        lock (random)
        {
            return random.Next(from, below);
        }
    }
}
