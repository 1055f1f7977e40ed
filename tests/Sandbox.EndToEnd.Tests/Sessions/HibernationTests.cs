using System.Net;
using System.Net.Http.Json;
using System.Text.Json.Nodes;
using Sandbox.EndToEnd.Tests.Harness;
using Xunit;
using static Sandbox.EndToEnd.Tests.Harness.SandboxApi;

namespace Sandbox.EndToEnd.Tests.Sessions;

/// <summary>Pausing, resuming, going back and forking with real machines, as an outside caller sees it.</summary>
public sealed class HibernationTests
{
    [Fact]
    public async Task A_session_is_paused_survives_a_killed_server_and_goes_on_where_it_stood()
    {
        await using var server = await SandboxServer.StartAsync(null, "--warm-pool", "0");
        var api = server.Api;
        var session = Text(await api.CreateSessionAsync(), "id");
        await PythonAsync(api, session, "import random, os\nx = {'a': [1, 2]}\nf = open('/tmp/open', 'w')\nf.write('before ')\nf.flush()");
        var pid = await PythonAsync(api, session, "print(os.getpid())");

        // A job that goes on through it all; its follower notices nothing but a silence.
        var job = Text(await api.StartShellAsync(session, "for i in $(seq 1 40); do echo $i; sleep 0.1; done"), "id");
        var follower = api.FollowAsync(session, job).GetAsyncEnumerator();
        Assert.True(await follower.MoveNextAsync());
        var seen = new List<OutputItem> { follower.Current };

        var paused = await api.PostAsync($"/v1/sessions/{session}/pause");
        Assert.Equal("paused", Text(paused, "state"));
        await EventuallyNoMachineAsync(server);
        Assert.Equal("running", Text(await api.GetAsync($"/v1/sessions/{session}/executions/{job}"), "state"));
        var refused = await api.SendAsync(
            new HttpRequestMessage(HttpMethod.Post, $"/v1/sessions/{session}/executions?wake=false") { Content = JsonContent.Create(new { shell = "echo" }) }, HttpStatusCode.Conflict);
        Assert.Contains("paused", Text(refused, "detail"), StringComparison.Ordinal);

        await server.KillAsync();
        await server.RestartAsync();
        Assert.Equal("paused", Text(await api.GetAsync($"/v1/sessions/{session}"), "state"));

        // The next call wakes it: same process, same variables, same open file.
        Assert.Equal(pid, await PythonAsync(api, session, "print(os.getpid())"));
        Assert.Equal("[1, 2] before after\n", await PythonAsync(api, session, "f.write('after')\nf.close()\nprint(x['a'], open('/tmp/open').read())"));
        var info = await api.GetAsync($"/v1/sessions/{session}");
        Assert.Equal(("running", 2L, "restore"), (Text(info, "state"), (long)info["generation"]!, Text(info, "startMethod")));
        Assert.Empty(info["recoveries"]!.AsArray());

        // The guest's clock is right, and the job's output has neither gap nor repeat.
        var off = Math.Abs(double.Parse(await PythonAsync(api, session, "import time; print(time.time())"), System.Globalization.CultureInfo.InvariantCulture) - DateTimeOffset.UtcNow.ToUnixTimeMilliseconds() / 1000.0);
        Assert.InRange(off, 0, 5);
        await foreach (var item in api.FollowAsync(session, job, lastEventId: seen[^1].Seq))
        {
            seen.Add(item);
        }

        var whole = new Finished(job, seen);
        whole.AssertGapFree();
        Assert.Equal(string.Concat(Enumerable.Range(1, 40).Select(i => $"{i}\n")), whole.Stdout);
        Assert.Equal(0, whole.ExitCode);
        await api.DeleteSessionAsync(session);
        Assert.Empty(Snapshots(server));
    }

    [Fact]
    public async Task A_session_goes_back_and_its_forks_go_their_own_ways()
    {
        await using var server = await SandboxServer.StartAsync(null, "--warm-pool", "0");
        var api = server.Api;
        var session = Text(await api.CreateSessionAsync(), "id");
        await PythonAsync(api, session, "import random, numpy, socket, secrets\nstate = 'good'");
        await api.ShellAsync(session, "echo good > $HOME/file");
        var checkpoint = await api.PostAsync($"/v1/sessions/{session}/checkpoints", new { name = "good" }, HttpStatusCode.Created);
        await PythonAsync(api, session, "state = 'bad'");
        await api.ShellAsync(session, "rm -rf $HOME/file");

        var back = await api.PostAsync($"/v1/sessions/{session}/checkpoints/{Text(checkpoint, "id")}/rollback");
        Assert.Equal("running", Text(back, "state"));
        Assert.Equal("good\n", await PythonAsync(api, session, "print(state)"));
        Assert.Equal("good\n", (await api.ShellAsync(session, "cat $HOME/file")).Stdout);

        var forked = await api.PostAsync($"/v1/sessions/{session}/fork", new { count = 3 }, HttpStatusCode.Created);
        var forks = forked["sessions"]!.AsArray().Select(s => Text(s!, "id")).ToList();
        Assert.All(forked["sessions"]!.AsArray(), s => Assert.Equal("running", Text(s!, "state")));
        var identities = new List<string>();
        foreach (var (fork, i) in forks.Select((f, i) => (f, i)))
        {
            Assert.Equal("good\n", await PythonAsync(api, fork, $"print(state); state = {i}"));
            await api.ShellAsync(fork, $"echo {i} > $HOME/file");
            identities.Add(await PythonAsync(api, fork, "print(random.random(), numpy.random.rand(), secrets.token_hex(8), socket.gethostname())"));
        }

        // No two share a random number or a name.
        Assert.All(Enumerable.Range(0, 4), part => Assert.Equal(3, identities.Select(l => l.Trim().Split(' ')[part]).Distinct().Count()));
        Assert.Equal("good\n", await PythonAsync(api, session, "print(state)"));
        foreach (var (fork, i) in forks.Select((f, i) => (f, i)))
        {
            Assert.Equal($"{i}\n", await PythonAsync(api, fork, "print(state)"));
            Assert.Equal($"{i}\n", (await api.ShellAsync(fork, "cat $HOME/file")).Stdout);
        }

        // A fork that is paused and resumed is still itself, without its parent.
        await api.DeleteSessionAsync(session);
        await api.PostAsync($"/v1/sessions/{forks[0]}/pause");
        Assert.Equal("0\n", await PythonAsync(api, forks[0], "print(state)"));
        foreach (var fork in forks)
        {
            await api.DeleteSessionAsync(fork);
        }

        Assert.Empty(Snapshots(server));
    }

    private static async Task<string> PythonAsync(SandboxApi api, string session, string code)
    {
        var done = await api.RunAsync(session, new JsonObject { ["code"] = code });
        Assert.True(done.ExitCode == 0, string.Join('\n', done.Events.Select(e => e.Data.ToJsonString())));
        return done.Stdout;
    }

    private static async Task EventuallyNoMachineAsync(SandboxServer server)
    {
        // Announced first, removed then.
        for (var deadline = DateTime.UtcNow + TimeSpan.FromSeconds(20); Machines.Of(server.ProcessId).Length > 0;)
        {
            Assert.True(DateTime.UtcNow < deadline, "The machine of a paused session still runs.");
            await Task.Delay(50);
        }
    }

    private static List<string> Snapshots(SandboxServer server) =>
        [.. Directory.EnumerateFiles(Path.Combine(server.DataDirectory, "snapshots"), "*", SearchOption.AllDirectories).Where(f => Path.GetDirectoryName(f)!.EndsWith("/snapshots", StringComparison.Ordinal))];
}
