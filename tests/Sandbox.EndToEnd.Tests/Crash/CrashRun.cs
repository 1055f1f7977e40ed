using System.Diagnostics;
using System.Globalization;
using System.Text;
using Sandbox.EndToEnd.Tests.Harness;

namespace Sandbox.EndToEnd.Tests.Crash;

/// <summary>
/// One server on one data directory that is killed again and again while callers use it, and started again. After each start what must be true is looked at: quickly, and every few starts in full. In the end all sessions are
/// brought back, read, and removed, and nothing may be left.
/// </summary>
internal sealed class CrashRun(CrashTarget target, int seed, Action<string> say)
{
    private const int FullLookEvery = 6;
    private readonly Random _random = new(seed);
    private readonly Queue<string> _notes = [];

    public async Task RunAsync(int kills)
    {
        await using var server = target.Prepare();
        var workload = new Workload(target, new CrashClient(server.Http, Note), _random);
        var truth = new Truth(target, workload, server);
        var clock = Stopwatch.StartNew();
        var starting = TimeSpan.Zero;
        var life = 0;
        try
        {
            while (life < kills)
            {
                server.Launch();
                if (life > 0 && _random.Next(6) == 0)
                {
                    // While it starts: what a predecessor left is looked at, and half of it is repaired.
                    await Task.Delay(_random.Next((int)target.LongestStart.TotalMilliseconds));
                }
                else
                {
                    var began = clock.Elapsed;
                    await server.WaitUntilReadyAsync();
                    starting += clock.Elapsed - began;
                    if (life == 0)
                    {
                        await target.WarmUpAsync(server);
                    }

                    await truth.LookQuicklyAsync();
                    if (life % FullLookEvery == FullLookEvery - 1)
                    {
                        await truth.LookAsync();
                    }

                    await workload.LiveAsync();
                }

                life++;
                await server.KillAsync();
                await workload.OnKilledAsync();
                Note($"— kill {life} —");
            }

            say($"seed {seed}: {life} kills in {clock.Elapsed.TotalSeconds:0} s, of which the server started for {starting.TotalSeconds:0} s; {workload.Summary}");
            server.Launch();
            await server.WaitUntilReadyAsync();
            await truth.LookQuicklyAsync();
            await truth.LookAsync();
            await truth.BringAllBackAsync();
            await truth.RemoveAllAsync();
            say($"seed {seed}: all brought back and removed after {clock.Elapsed.TotalSeconds:0} s");
        }
        catch (Exception e)
        {
            say(Describe(e, life, server));
            throw new CrashViolationException(Describe(e, life, server));
        }
    }

    private void Note(string text)
    {
        lock (_notes)
        {
            _notes.Enqueue($"{DateTime.UtcNow:HH:mm:ss.fff} {text}");
            if (_notes.Count > 60)
            {
                _notes.Dequeue();
            }
        }
    }

    private string Describe(Exception e, int life, SandboxServer server)
    {
        var text = new StringBuilder();
        text.AppendLine(CultureInfo.InvariantCulture, $"Seed {seed} (SANDBOX_CRASH_SEED), after {life} kills: {(e is CrashViolationException ? e.Message : e.ToString())}");
        if ((e as CrashViolationException)?.Session is { } session)
        {
            text.AppendLine(CultureInfo.InvariantCulture, $"What was done with session {session.Id}:").AppendJoin('\n', session.History).AppendLine();
            text.AppendLine("What the server said of it:").AppendJoin('\n', server.Log.Split('\n').Where(l => l.Contains(session.Id[4..], StringComparison.Ordinal)).TakeLast(60)).AppendLine();
        }

        lock (_notes)
        {
            text.AppendLine("The last calls:").AppendJoin('\n', _notes).AppendLine();
        }

        return text.AppendLine("The server's log ends:").AppendJoin('\n', server.Log.Split('\n').TakeLast(80)).ToString();
    }
}
