using System.Text;
using Sandbox.Abstractions;
using Sandbox.Client;
using Sandbox.Grains.Hosts.Executions;
using Sandbox.Grains.Tests.Support;
using Sandbox.Guest.Protocol;
using Xunit;

namespace Sandbox.Grains.Tests;

/// <summary>Output from the guest to readers, and truthful exits.</summary>
public sealed class OutputTests
{
    [Fact]
    public async Task Many_readers_early_and_late_see_the_same_output_whole()
    {
        await using var cluster = await SandboxTestCluster.StartAsync();
        var session = await cluster.Client().StartSessionAsync();
        var execution = await session.StartCommandAsync(["count", "3000"]);
        var readers = Enumerable.Range(0, 4).Select(_ => TextAsync(execution)).ToList();
        await execution.WaitForExitAsync();
        readers.Add(TextAsync(execution));

        var expected = string.Concat(Enumerable.Range(0, 3000).Select(i => $"{i}\n"));
        Assert.All(await Task.WhenAll(readers), text => Assert.Equal(expected, text));
        var seqs = new List<long>();
        await foreach (var e in execution.ReadOutputAsync(2990))
        {
            seqs.Add(e.Seq);
        }

        Assert.Equal(2990, seqs[0]);
        Assert.Equal(Enumerable.Range(2990, seqs.Count).Select(n => (long)n), seqs);
    }

    [Fact]
    public async Task Output_beyond_the_limit_is_dropped_and_said()
    {
        await using var cluster = await SandboxTestCluster.StartAsync(silos: 1);
        var session = await cluster.Client().StartSessionAsync();
        var execution = await session.StartAsync(new ExecutionRequest { Argv = ["flood", "50000"], OutputLimitBytes = 10_500 });
        var (stdout, _, exit) = await execution.CollectAsync();
        Assert.Equal(10_500, stdout.Length);
        Assert.Equal(10_500, exit.OutputBytes);
        Assert.Equal(39_500, exit.DroppedBytes);
        Assert.Contains("39500 bytes of output beyond the limit", exit.Message, StringComparison.Ordinal);
        var notices = 0;
        await foreach (var e in execution.ReadOutputAsync())
        {
            notices += e.Kind == OutputKind.Notice ? 1 : 0;
        }

        Assert.Equal(1, notices);
    }

    [Fact]
    public async Task Standard_input_signals_environment_and_contexts_reach_the_guest()
    {
        await using var cluster = await SandboxTestCluster.StartAsync(silos: 1);
        var session = await cluster.Client().StartSessionAsync(new CreateSessionRequest { Env = new() { ["A"] = "session", ["B"] = "session" } });
        var cat = await session.StartAsync(new ExecutionRequest { Argv = ["cat"], OpenStdin = true });
        await cat.WriteStdinAsync("one "u8.ToArray());
        await cat.WriteStdinAsync("two"u8.ToArray(), endOfFile: true);
        Assert.Equal("one two", (await cat.CollectAsync()).Stdout);

        var env = await session.StartAsync(new ExecutionRequest { Argv = ["env", "A"], Env = new() { ["A"] = "own" } });
        Assert.Equal("own", (await env.CollectAsync()).Stdout);

        var hold = await session.StartCommandAsync(["hold"]);
        await hold.SignalAsync(15);
        var exit = await hold.WaitForExitAsync();
        Assert.Equal((ExitReason.Killed, 143, 15), (exit.Reason, exit.ExitCode, exit.Signal));
        Assert.Equal("ended by SIGTERM, sent by a caller", exit.Message);
        var late = await Assert.ThrowsAsync<SandboxException>(() => hold.SignalAsync(15));
        Assert.Equal(SandboxErrorCode.Conflict, late.Code);

        var first = await (await session.StartCodeAsync("x")).CollectAsync();
        var second = await (await session.StartCodeAsync("x")).CollectAsync();
        Assert.Equal(first.Stdout, second.Stdout);
        cluster.BackendOf(await session.GetAsync()).Of(session.Id).Crash("gone");
        await Eventually.TrueAsync(async () => (await session.GetAsync()).Generation == 2);
        Assert.Equal(first.Stdout, (await (await session.StartCodeAsync("x")).CollectAsync()).Stdout);
        Assert.Single(await session.ListContextsAsync());
    }

    [Fact]
    public async Task A_reader_goes_on_after_the_silo_that_carried_the_stream_dies()
    {
        await using var cluster = await SandboxTestCluster.StartAsync(silos: 2);
        var session = await cluster.Client().StartSessionAsync();
        var info = await session.GetAsync();
        var execution = await session.StartAsync(new ExecutionRequest { Argv = ["cat"], OpenStdin = true });
        var reader = TextAsync(execution);
        var expected = new StringBuilder();
        for (var i = 0; i < 40; i++)
        {
            if (i == 15)
            {
                await cluster.KillAsync(info.HostId == "host-a" ? "host-b" : "host-a");
            }

            // The session grain may have lived on the silo that died: whether a write arrived is then not known, so these are asked of the guest itself.
            await cluster.BackendOf(info).Of(session.Id).TestGuest.Executions[execution.Id].WriteStdinAsync(Encoding.UTF8.GetBytes($"{i} "), i == 39, default);
            expected.Append(i).Append(' ');
        }

        Assert.Equal(expected.ToString(), await reader.WaitAsync(TimeSpan.FromSeconds(90)));
    }

    public static TheoryData<string, ExitReason, int, string> Exits => new()
    {
        { """{"exitCode":3}""", ExitReason.Exited, 3, "exit code 3" },
        { """{"signal":11}""", ExitReason.Signaled, 139, "ended by SIGSEGV" },
        { """{"signal":9,"timedOut":true}""", ExitReason.TimedOut, 137, "killed by SIGKILL 2 s after SIGTERM: the timeout of 10 s had passed" },
        { """{"signal":15,"timedOut":true}""", ExitReason.TimedOut, 143, "ended by SIGTERM: the timeout of 10 s had passed" },
        { """{"signal":9,"outOfMemory":true}""", ExitReason.OutOfMemory, 137, "killed by SIGKILL: out of memory (the session has 512 MiB)" },
        { """{"exitCode":0,"outOfMemory":true}""", ExitReason.Exited, 0, "exit code 0; the kernel killed one of its processes, out of memory" },
        { """{"exitCode":1,"diskFull":true,"pidsLimitHit":true}""", ExitReason.Exited, 1, "exit code 1; it hit the limit of processes; the disk was full" },
        { """{"exitCode":-5}""", ExitReason.Exited, 0, "exit code 0" },
        { """{"signal":2147483647}""", ExitReason.Signaled, 192, "ended by signal 64" },
    };

    [Theory]
    [MemberData(nameof(Exits))]
    public void An_exit_is_truthful(string guest, ExitReason reason, int code, string message)
    {
        var facts = new ExecutionFacts { Timeout = TimeSpan.FromSeconds(10), MemoryMiB = 512 };
        var exit = ExitTranslator.FromGuest(Exited.Parser.ParseJson(guest), facts);
        Assert.Equal((reason, code, message), (exit.Reason, exit.ExitCode, exit.Message));
    }

    private static async Task<string> TextAsync(SandboxExecution execution) => (await execution.CollectAsync()).Stdout;
}
