using System.Diagnostics;
using Sandbox.Abstractions;
using Sandbox.Bench.Measuring;
using Sandbox.Bench.Report;
using Sandbox.Bench.Serving;
using Sandbox.Client;
using Sandbox.Storage.Cluster;
using Sandbox.TestSupport;

namespace Sandbox.Bench.Benches;

/// <summary>The actors alone: no machines behind them (the null backend), a real PostgreSQL and a real Redis.</summary>
internal sealed class ControlBench : IBench
{
    private const string Target = "sessions created and running ≥ 1000/s by 64 creators";
    private const int Creators = 64;
    private const int PerTenant = 500;
    private const int Timed = 5_000;
    private const int WarmUp = 256;
    private const int Wakes = 200;

    public string Name => "control";

    public string Summary => "creates a second, waking a paused session, memory of hibernated ones; without machines, on PostgreSQL and Redis";

    public IReadOnlyList<string> Targets => [Target];

    public async Task<BenchResult> RunAsync(BenchContext context, CancellationToken cancellationToken)
    {
        if ((PostgresServer.Missing ?? RedisServer.Missing) is { } missing)
        {
            throw new BenchException(missing);
        }

        await using var postgres = await PostgresServer.StartAsync();
        await using var redis = await RedisServer.StartAsync();

        // The server has a pool, and the baseline has its own: together within what PostgreSQL takes.
        var connection = await postgres.CreateDatabaseAsync() + ";Maximum Pool Size=60";
        await DatabaseMigrator.MigrateAsync(connection, null, cancellationToken);
        var settings = new Dictionary<string, string>
        {
            ["postgres"] = connection,
            ["redis"] = redis.ConnectionString,
            ["nullBackend"] = "true",
            ["backends"] = "",
            ["memoryMiB"] = "1000000000",
            ["maxMicroVms"] = "100000",
            ["warmPool"] = "0",
            ["clusterId"] = "bench",
        };
        await using var server = await PrivateServer.StartAsync(context, settings, null, cancellationToken);
        var sessions = new Crowd(server.Cluster, PerTenant);
        var database = new DatabaseLoad(connection);

        await sessions.CreateAsync(WarmUp, Creators, cancellationToken);
        await sessions.PauseAsync(Creators, cancellationToken);
        var empty = await sessions.HibernateAsync(context.Say, cancellationToken);

        var timed = Math.Min(Timed, context.Sessions);
        context.Say($"creating {timed} sessions, {Creators} at a time");
        var inserts = new List<double> { await database.InsertsPerSecondAsync(timed, Creators, cancellationToken) };
        var writesBefore = await database.WritesAsync(cancellationToken);
        var began = Stopwatch.GetTimestamp();
        var creates = await sessions.CreateAsync(timed, Creators, cancellationToken);
        var seconds = Stopwatch.GetElapsedTime(began).TotalSeconds;
        var writesEach = (double)(await database.WritesAsync(cancellationToken) - writesBefore) / timed;
        inserts.Add(await database.InsertsPerSecondAsync(timed, Creators, cancellationToken));
        var rate = timed / seconds;
        context.Say($"{rate:0} creates/s, {writesEach:0.0} writes each; {inserts[0]:0} and {inserts[1]:0} raw inserts/s");

        context.Say("pausing them");
        began = Stopwatch.GetTimestamp();
        await sessions.PauseAsync(Creators, cancellationToken);
        var pauseRate = timed / Stopwatch.GetElapsedTime(began).TotalSeconds;
        for (var made = timed; made < context.Sessions; made += timed)
        {
            await sessions.CreateAsync(Math.Min(timed, context.Sessions - made), Creators, cancellationToken);
            await sessions.PauseAsync(Creators, cancellationToken);
            context.Say($"{Math.Min(made + timed, context.Sessions)} sessions are paused");
        }

        var full = await sessions.HibernateAsync(context.Say, cancellationToken);
        var wakes = await sessions.WakeAsync(Wakes, cancellationToken);
        var raw = inserts.Average() / writesEach;
        return new BenchResult
        {
            Name = Name,
            Headline = new Figure("creates_per_s", rate),
            Baseline = new Figure("sessions/s if each were only its writes: plain inserts of rows as large, before and after", raw),
            Ratio = rate / raw,
            Verdicts = [new Verdict(Target, rate, 1000, AtLeast: true)],
            Rows =
            [
                new Row("sessions created and running", "1/s", Distribution.One(rate)),
                new Row("  one create until it runs", "ms", Distribution.OfMilliseconds(creates)),
                new Row("  rows written for each", "rows", Distribution.One(writesEach)),
                new Row("raw: rows inserted", "1/s", Distribution.Of(inserts)),
                new Row("sessions paused", "1/s", Distribution.One(pauseRate)),
                new Row("wake a paused session", "ms", Distribution.OfMilliseconds(wakes)),
                new Row($"managed memory of one of {context.Sessions} hibernated sessions", "B", Distribution.One((double)(full.Managed - empty.Managed) / context.Sessions)),
                new Row($"resident memory of one of {context.Sessions} hibernated sessions", "B", Distribution.One((double)(full.Resident - empty.Resident) / context.Sessions)),
                new Row("actors still in memory for them", "", Distribution.One(full.Activations - empty.Activations)),
            ],
            Notes = ["PostgreSQL runs here without fsync, for Sandbox and for the baseline alike: what is measured is the actors, not the disk"],
        };
    }

    /// <summary>Many sessions of many tenants, as each tenant may have only so many.</summary>
    private sealed class Crowd(IClusterClient cluster, int perTenant)
    {
        private readonly List<(string Tenant, string Id)> _running = [];
        private readonly List<(string Tenant, string Id)> _paused = [];
        private int _next;

        public async Task<IReadOnlyList<TimeSpan>> CreateAsync(int count, int atOnce, CancellationToken cancellationToken)
        {
            var times = new TimeSpan[count];
            var made = new (string, string)[count];
            await EachAsync(count, atOnce, async i =>
            {
                var tenant = $"bench-{Interlocked.Increment(ref _next) / perTenant}";
                var began = Stopwatch.GetTimestamp();
                var client = new SandboxClient((IGrainFactory)cluster, tenant, null);
                var request = new CreateSessionRequest { Template = "null", Untrusted = false, IdleTimeout = TimeSpan.FromDays(1), MaxLifetime = TimeSpan.FromDays(7) };
                made[i] = (tenant, (await client.StartSessionAsync(request, null, cancellationToken)).Id);
                times[i] = Stopwatch.GetElapsedTime(began);
            }, cancellationToken);
            _running.AddRange(made);
            return times;
        }

        public async Task PauseAsync(int atOnce, CancellationToken cancellationToken)
        {
            var all = _running.ToArray();
            await EachAsync(all.Length, atOnce, i => MoveAsync(all[i], s => s.PauseAsync(null), SessionState.Paused), cancellationToken);
            _running.Clear();
            _paused.AddRange(all);
        }

        public async Task<IReadOnlyList<TimeSpan>> WakeAsync(int count, CancellationToken cancellationToken)
        {
            var times = new List<TimeSpan>();
            foreach (var session in _paused.Take(count))
            {
                cancellationToken.ThrowIfCancellationRequested();
                var began = Stopwatch.GetTimestamp();
                await MoveAsync(session, s => s.ResumeAsync(null), SessionState.Running);
                times.Add(Stopwatch.GetElapsedTime(began));
            }

            return times;
        }

        /// <summary>Has idle actors leave memory, and says what is left.</summary>
        public async Task<Footprint> HibernateAsync(Action<string> say, CancellationToken cancellationToken)
        {
            TenantContext.Set(TenantContext.Development);
            var management = cluster.GetGrain<IManagementGrain>(0);
            var left = int.MaxValue;
            while (await management.GetTotalActivationCount(cancellationToken) is var now && now < left)
            {
                left = now;
                await Task.Delay(TimeSpan.FromSeconds(3), cancellationToken);
                await management.ForceActivationCollection(TimeSpan.FromSeconds(2), cancellationToken);
            }

            GC.Collect(GC.MaxGeneration, GCCollectionMode.Aggressive, blocking: true, compacting: true);
            GC.WaitForPendingFinalizers();
            var footprint = new Footprint(GC.GetTotalMemory(forceFullCollection: true), Environment.WorkingSet, left);
            say($"{_paused.Count} paused, {left} actors in memory, {footprint.Managed >> 20} MiB managed, {footprint.Resident >> 20} MiB resident");
            return footprint;
        }

        private async Task MoveAsync((string Tenant, string Id) session, Func<ISessionCheckpoints, Task<SessionInfo>> move, SessionState wanted)
        {
            TenantContext.Set(session.Tenant);
            var info = await move(cluster.GetGrain<ISessionCheckpoints>(session.Id));
            while (info.State is SessionState.Pausing or SessionState.Resuming)
            {
                info = await cluster.GetGrain<ISessionGrain>(session.Id).WaitUntilSettledAsync(TimeSpan.FromSeconds(15));
            }

            if (info.State != wanted)
            {
                throw new BenchException($"a session is {info.State} instead of {wanted}: {info.Cause}");
            }
        }

        private static Task EachAsync(int count, int atOnce, Func<int, Task> act, CancellationToken cancellationToken) => Parallel.ForAsync(
            0, count, new ParallelOptions { MaxDegreeOfParallelism = atOnce, CancellationToken = cancellationToken }, async (i, _) => await act(i));
    }

    private sealed record Footprint(long Managed, long Resident, int Activations);
}
