using System.Text.Json.Nodes;
using Sandbox.EndToEnd.Tests.Harness;
using Xunit;
using static Sandbox.EndToEnd.Tests.Harness.SandboxApi;

namespace Sandbox.EndToEnd.Tests.Containment;

/// <summary>
/// What hostile or broken code does, and what its caller is told. Each test ends by proving that another session, and where possible the same one, goes on.
/// </summary>
[Collection(ServerGroup.Name)]
public sealed class RunawayTests(ServerFixture fixture) : IAsyncLifetime
{
    private readonly SandboxApi _api = fixture.Api;
    private string _session = "";

    public async ValueTask InitializeAsync() => _session = Text(await _api.CreateSessionAsync(), "id");

    public async ValueTask DisposeAsync() => await _api.DeleteSessionAsync(_session);

    [Fact]
    public async Task A_runaway_loop_in_a_process_is_timed_out()
    {
        var loop = await _api.RunAsync(_session, new JsonObject { ["argv"] = new JsonArray("python3", "-c", "while True: pass"), ["timeoutSeconds"] = 3 });

        Assert.Equal("timedOut", loop.Reason);
        await AssertSessionGoesOnAsync();
    }

    [Fact]
    public async Task A_runaway_loop_in_a_context_is_interrupted_and_keeps_its_variables()
    {
        await _api.RunAsync(_session, new JsonObject { ["code"] = "kept = 41" });

        var loop = await _api.RunAsync(_session, new JsonObject { ["code"] = "while True: pass", ["timeoutSeconds"] = 3 });
        var after = await _api.RunAsync(_session, new JsonObject { ["code"] = "print(kept + 1)" });

        Assert.Equal("timedOut", loop.Reason);
        Assert.Equal("42\n", after.Stdout);
    }

    [Fact]
    public async Task A_process_that_ignores_SIGTERM_is_killed_after_its_grace()
    {
        var stubborn = await _api.RunAsync(_session, new JsonObject
        {
            ["shell"] = "trap '' TERM; echo ready; while :; do sleep 1; done",
            ["timeoutSeconds"] = 2,
            ["graceSeconds"] = 1,
        });

        Assert.Equal("timedOut", stubborn.Reason);
        Assert.Equal(9, (int)stubborn.Exit["signal"]!);
        Assert.Equal("ready\n", stubborn.Stdout);
        await AssertSessionGoesOnAsync();
    }

    [Fact]
    public async Task A_fork_bomb_ends_and_the_session_goes_on()
    {
        var bomb = await _api.ShellAsync(_session, "bomb() { bomb | bomb & }; bomb; sleep 60", timeoutSeconds: 30);

        Assert.True(bomb.Reason is "timedOut" or "exited" or "signaled", bomb.Exit.ToString());
        Assert.True((bool?)bomb.Exit["processLimitHit"] ?? false, bomb.Exit.ToString());
        await AssertSessionGoesOnAsync();
    }

    [Fact]
    public async Task Ten_gigabytes_of_memory_are_refused_truthfully()
    {
        var hog = await _api.RunAsync(_session, new JsonObject
        {
            // Touched page by page, so that overcommit does not hide it; in a child so that Python's own MemoryError does not soften it.
            ["argv"] = new JsonArray("python3", "-c", "b = []\nwhile True: b.append(bytearray(16 << 20))"),
            ["timeoutSeconds"] = 120,
        });

        Assert.Equal("outOfMemory", hog.Reason);
        await AssertSessionGoesOnAsync();
    }

    [Fact]
    public async Task An_endless_print_is_capped_and_said_to_be()
    {
        var flood = await _api.RunAsync(_session, new JsonObject
        {
            ["shell"] = "yes 'all work and no play'",
            ["timeoutSeconds"] = 6,
            ["outputLimitBytes"] = 100_000,
        });

        Assert.Equal("timedOut", flood.Reason);
        Assert.InRange(flood.Stdout.Length, 1, 100_000);
        Assert.Contains("100", flood.Notices, StringComparison.Ordinal);
        Assert.True((long)flood.Exit["droppedBytes"]! > 0, flood.Exit.ToString());
        flood.AssertGapFree();
        await AssertSessionGoesOnAsync();
    }

    [Fact]
    public async Task A_full_disk_is_an_error_for_its_writer_only()
    {
        var full = await _api.ShellAsync(_session, "dd if=/dev/zero of=$HOME/fill bs=1M; echo dd ended with $?; exit 7", timeoutSeconds: 240);

        Assert.Equal(7, full.ExitCode);
        Assert.Contains("No space left on device", full.Stderr, StringComparison.Ordinal);
        Assert.True((bool?)full.Exit["diskFull"] ?? false, full.Exit.ToString());

        var freed = await _api.ShellAsync(_session, "rm $HOME/fill && echo again > $HOME/small && cat $HOME/small");
        Assert.Equal("again\n", freed.Stdout);
    }

    [Fact]
    public async Task Removing_everything_hurts_nobody_else()
    {
        var other = Text(await _api.CreateSessionAsync(), "id");

        var removed = await _api.RunAsync(_session, new JsonObject
        {
            ["argv"] = new JsonArray("rm", "-rf", "--no-preserve-root", "/"),
            ["user"] = "root",
            ["timeoutSeconds"] = 120,
        });

        Assert.Contains(removed.Reason, (string[])["exited", "timedOut"]);
        var untouched = await _api.ShellAsync(other, "ls /usr/bin/python3 && python3 -c 'print(6 * 7)'");
        Assert.Equal("/usr/bin/python3\n42\n", untouched.Stdout);
        await _api.DeleteSessionAsync(other);
    }

    [Fact]
    public async Task SIGTERM_reaches_a_process_while_its_output_streams()
    {
        var execution = Text(await _api.StartShellAsync(_session, "trap 'echo bye; exit 3' TERM; i=0; while :; do echo line $i; i=$((i+1)); sleep 0.01; done"), "id");

        var events = new List<OutputItem>();
        await foreach (var item in _api.FollowAsync(_session, execution))
        {
            events.Add(item);
            if (events.Count == 5)
            {
                await _api.SignalAsync(_session, execution, "TERM");
            }
        }

        var finished = new Finished(execution, events);
        finished.AssertGapFree();
        Assert.Equal(3, finished.ExitCode);
        Assert.EndsWith("bye\n", finished.Stdout, StringComparison.Ordinal);
    }

    private async Task AssertSessionGoesOnAsync()
    {
        var after = await _api.ShellAsync(_session, "echo still here", timeoutSeconds: 60);
        Assert.Equal("still here\n", after.Stdout);
        Assert.Equal("running", Text(await _api.GetAsync($"/v1/sessions/{_session}"), "state"));
    }
}
