using System.Text.Json.Nodes;
using Sandbox.EndToEnd.Tests.Harness;
using Xunit;
using static Sandbox.EndToEnd.Tests.Harness.SandboxApi;

namespace Sandbox.EndToEnd.Tests.Output;

/// <summary>Output as it happens, again, late, from the middle, and by many.</summary>
[Collection(ServerGroup.Name)]
public sealed class FollowTests(ServerFixture fixture) : IAsyncLifetime
{
    private readonly SandboxApi _api = fixture.Api;
    private string _session = "";

    public async ValueTask InitializeAsync() => _session = Text(await _api.CreateSessionAsync(), "id");

    public async ValueTask DisposeAsync() => await _api.DeleteSessionAsync(_session);

    [Fact]
    public async Task Output_arrives_while_the_program_still_runs()
    {
        // The program cannot end before it is answered, and it is answered only after its first line was seen: no clock is needed.
        var execution = Text(
            await _api.StartAsync(_session, new JsonObject { ["shell"] = "echo question; read answer; echo got $answer; echo oops >&2; exit 5", ["openStdin"] = true }), "id");

        var events = new List<OutputItem>();
        await foreach (var item in _api.FollowAsync(_session, execution))
        {
            events.Add(item);
            if (events.Count == 1)
            {
                Assert.Equal("question\n", item.Data["text"]!.ToString());
                await _api.StdinAsync(_session, execution, "forty-two\n", eof: true);
            }
        }

        var finished = new Finished(execution, events);
        finished.AssertGapFree();
        Assert.Equal("question\ngot forty-two\n", finished.Stdout);
        Assert.Equal("oops\n", finished.Stderr);
        Assert.Equal(5, finished.ExitCode);
    }

    [Fact]
    public async Task Many_followers_early_late_and_interrupted_see_the_same()
    {
        var execution = Text(await _api.StartShellAsync(_session, "for i in $(seq 1 200); do echo line $i; sleep 0.01; done"), "id");

        var early = _api.FinishAsync(_session, execution);
        var second = _api.FinishAsync(_session, execution);
        var interrupted = FollowWithInterruptionsAsync(execution);
        var all = new[] { await early, await second, await interrupted, await _api.FinishAsync(_session, execution) };

        var expected = string.Concat(Enumerable.Range(1, 200).Select(i => $"line {i}\n"));
        foreach (var follower in all)
        {
            follower.AssertGapFree();
            Assert.Equal(expected, follower.Stdout);
        }
    }

    [Fact]
    public async Task Bytes_that_are_no_text_come_through_unchanged()
    {
        var finished = await _api.RunAsync(
            _session, new JsonObject { ["argv"] = new JsonArray("python3", "-c", "import os; os.write(1, bytes(range(256)) * 300)") });

        var bytes = finished.Events.Where(e => e.Kind == "stdout").SelectMany(e => e.Bytes).ToArray();
        Assert.Equal([.. Enumerable.Repeat(Enumerable.Range(0, 256).Select(i => (byte)i), 300).SelectMany(b => b)], bytes);
    }

    private async Task<Finished> FollowWithInterruptionsAsync(string execution)
    {
        var events = new List<OutputItem>();
        while (events.Count == 0 || events[^1].Kind != "exit")
        {
            var taken = 0;
            await foreach (var item in _api.FollowAsync(_session, execution, events.Count == 0 ? null : events[^1].Seq))
            {
                events.Add(item);
                if (++taken == 20)
                {
                    break;
                }
            }
        }

        return new Finished(execution, events);
    }
}
