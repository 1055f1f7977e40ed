using System.Text.Json.Nodes;
using Sandbox.EndToEnd.Tests.Harness;
using Sandbox.TestSupport;
using Xunit;
using static Sandbox.EndToEnd.Tests.Harness.Patience;
using static Sandbox.EndToEnd.Tests.Harness.SandboxApi;

namespace Sandbox.EndToEnd.Tests.Cluster;

/// <summary>Two servers, one cluster: Redis membership, PostgreSQL state and reminders, real microVMs on both hosts.</summary>
public sealed class TwoSiloTests
{
    [Fact]
    public async Task A_session_on_one_silo_is_served_through_the_other_and_survives_its_hosts_death()
    {
        await using var postgres = await PostgresServer.StartAsync();
        await using var redis = await RedisServer.StartAsync();
        var unmigrated = await CommandLine.RunAsync(
            Nothing, "/tmp", "serve", "--dev", "--urls", $"http://127.0.0.1:{Loopback.FreePort()}", "--data", Directory.CreateTempSubdirectory("sandbox-e2e-").FullName,
            "--redis", redis.ConnectionString, "--postgres", postgres.ConnectionString, "--snapshots", "/tmp/sandbox-unused", "--snapshot-key", "/tmp/sandbox-unused-key");
        Assert.NotEqual(0, unmigrated.ExitCode);
        Assert.Contains("sandbox db migrate", unmigrated.Stderr, StringComparison.Ordinal);

        var cluster = await ClusterArguments.MakeAsync(postgres, redis);
        await using var a = await SandboxServer.StartAsync(null, [.. cluster, "--host-id", "host-a"]);
        await using var b = await SandboxServer.StartAsync(null, [.. cluster, "--host-id", "host-b"]);
        await b.Api.UntilHostsAsync(hosts => hosts.Count == 2 && hosts.All(CanTakeSessions), TimeSpan.FromSeconds(30));

        // Two sessions, so that the scheduler has a reason to use both hosts.
        var first = await a.Api.CreateSessionAsync();
        var second = await a.Api.CreateSessionAsync();
        Assert.Equal(["host-a", "host-b"], ((string[])[Text(first, "hostId"), Text(second, "hostId")]).Order(StringComparer.Ordinal));

        // Everything through the silo that does not hold the machine: start, live output, input, files.
        var onB = Text(first, "hostId") == "host-b" ? Text(first, "id") : Text(second, "id");
        var execution = Text(await a.Api.StartAsync(onB, new JsonObject { ["shell"] = "echo ask; read x; echo got $x; echo $x > $HOME/kept; sync", ["openStdin"] = true }), "id");
        var events = new List<OutputItem>();
        await foreach (var item in a.Api.FollowAsync(onB, execution))
        {
            events.Add(item);
            if (events.Count == 1)
            {
                await a.Api.StdinAsync(onB, execution, "something\n", eof: true);
            }
        }

        var finished = new Finished(execution, events);
        finished.AssertGapFree();
        Assert.Equal("ask\ngot something\n", finished.Stdout);
        Assert.Equal(finished.Stdout, (await b.Api.FinishAsync(onB, execution)).Stdout);

        // The host dies without a word. The session is still known through the other silo, and comes back with its files when the host does.
        await b.KillAsync();
        Assert.Equal(onB, Text(await EventuallyAsync(() => a.Api.GetAsync($"/v1/sessions/{onB}")), "id"));
        await b.RestartAsync();
        var kept = await EventuallyAsync(() => a.Api.ShellAsync(onB, "cat $HOME/kept"));
        Assert.Equal("something\n", kept.Stdout);
        var recovered = await a.Api.GetAsync($"/v1/sessions/{onB}");
        Assert.True((long)recovered["generation"]! >= 2, recovered.ToString());
        Assert.NotEmpty(recovered["recoveries"]!.AsArray());

        foreach (var session in (JsonNode[])[first, second])
        {
            await a.Api.DeleteSessionAsync(Text(session, "id"));
        }
    }

    [Fact]
    public async Task A_session_is_paused_on_one_host_resumed_on_another_and_recovered_there_when_its_host_dies()
    {
        await using var postgres = await PostgresServer.StartAsync();
        await using var redis = await RedisServer.StartAsync();
        var cluster = await ClusterArguments.MakeAsync(postgres, redis);
        await using var a = await SandboxServer.StartAsync(null, [.. cluster, "--host-id", "host-a"]);
        var paused = Text(await a.Api.CreateSessionAsync(), "id");
        var live = Text(await a.Api.CreateSessionAsync(new JsonObject { ["checkpoints"] = new JsonObject { ["afterEachExecution"] = true } }), "id");
        await using var b = await SandboxServer.StartAsync(null, [.. cluster, "--host-id", "host-b"]);
        await b.Api.UntilHostsAsync(hosts => hosts.Count == 2 && hosts.All(CanTakeSessions), TimeSpan.FromSeconds(30));

        // One is paused with a job under way, the other has a checkpoint behind it and goes on.
        await a.Api.RunAsync(paused, new JsonObject { ["code"] = "x = 'paused'" });
        var job = Text(await a.Api.StartShellAsync(paused, "for i in $(seq 1 30); do echo $i; sleep 0.1; done"), "id");
        Assert.Equal("paused", Text(await a.Api.PostAsync($"/v1/sessions/{paused}/pause"), "state"));
        var reading = b.Api.FinishAsync(paused, job);
        await a.Api.RunAsync(live, new JsonObject { ["code"] = "x = 'saved'" });
        await EventuallyAsync(async () =>
        {
            Assert.NotEmpty((await a.Api.GetAsync($"/v1/sessions/{live}/checkpoints"))["checkpoints"]!.AsArray());
            return true;
        });
        var orphans = Machines.Of(a.ProcessId);
        Assert.Single(orphans);
        await a.KillAsync();
        await Machines.AssertGoneAsync(orphans);

        var resumed = await EventuallyAsync(() => b.Api.RunAsync(paused, new JsonObject { ["code"] = "print(x)" }));
        Assert.Equal("paused\n", resumed.Stdout);
        var whole = await reading;
        whole.AssertGapFree();
        Assert.Equal(string.Concat(Enumerable.Range(1, 30).Select(i => $"{i}\n")), whole.Stdout);

        var recovered = await EventuallyAsync(() => b.Api.RunAsync(live, new JsonObject { ["code"] = "print(x)" }));
        Assert.Equal("saved\n", recovered.Stdout);
        var info = await b.Api.GetAsync($"/v1/sessions/{live}");
        Assert.Equal("host-b", Text(info, "hostId"));
        Assert.Contains("checkpoint", Text(info["recoveries"]!.AsArray()[0]!, "kept"), StringComparison.Ordinal);
        Assert.Equal("host-b", Text(await b.Api.GetAsync($"/v1/sessions/{paused}"), "hostId"));

        // What the dead host left is gone once it is back.
        await a.RestartAsync();
        await EventuallyAsync(() =>
        {
            Assert.Empty(Machines.Of(a.ProcessId));
            Assert.Empty(Directory.EnumerateFiles(a.DataDirectory, "disk.img", SearchOption.AllDirectories));
            return Task.FromResult(true);
        });
        foreach (var session in (string[])[paused, live])
        {
            await b.Api.DeleteSessionAsync(session);
        }
    }

    private static Dictionary<string, string> Nothing => [];
}
