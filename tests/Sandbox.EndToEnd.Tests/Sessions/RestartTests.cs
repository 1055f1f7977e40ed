using System.Net;
using System.Text;
using System.Text.Json.Nodes;
using Sandbox.EndToEnd.Tests.Harness;
using Xunit;
using static Sandbox.EndToEnd.Tests.Harness.SandboxApi;

namespace Sandbox.EndToEnd.Tests.Sessions;

/// <summary>A session outlives the program that serves it, and the program leaves nothing behind.</summary>
public sealed class RestartTests
{
    [Fact]
    public async Task A_killed_server_leaves_no_machine_and_its_sessions_come_back_with_their_files()
    {
        await using var server = await SandboxServer.StartAsync();
        var api = server.Api;
        var session = Text(await api.CreateSessionAsync(), "id");
        var done = await api.ShellAsync(session, "echo kept > $HOME/file; sync; echo written");
        var lost = Text(await api.StartShellAsync(session, "echo begun; sleep 1000"), "id");
        await foreach (var _ in api.FollowAsync(session, lost))
        {
            break;
        }

        var machines = Machines.Of(server.ProcessId);
        Assert.NotEmpty(machines);

        await server.KillAsync();
        await Machines.AssertGoneAsync(machines);
        await server.RestartAsync();

        Assert.Equal(done.Stdout, (await api.FinishAsync(session, done.Id)).Stdout);
        var after = await api.FinishAsync(session, lost);
        Assert.Equal("lost", after.Reason);
        Assert.Equal("begun\n", after.Stdout);

        // A boot under emulation may take longer than a call waits.
        var file = await Patience.EventuallyAsync(() => api.ShellAsync(session, "cat $HOME/file"));
        Assert.Equal("kept\n", file.Stdout);
        var recovered = await api.GetAsync($"/v1/sessions/{session}");
        Assert.Single(recovered["recoveries"]!.AsArray());
        Assert.Equal(2, (long)recovered["generation"]!);

        await api.DeleteSessionAsync(session);
    }

    [Fact]
    public async Task A_stopped_server_ends_its_machines_and_exits_cleanly()
    {
        await using var server = await SandboxServer.StartAsync();
        await server.Api.CreateSessionAsync();
        var machines = Machines.Of(server.ProcessId);

        var exitCode = await server.StopAsync();

        Assert.Equal(0, exitCode);
        await Machines.AssertGoneAsync(machines);
    }

    [Fact]
    public async Task A_stopped_server_pauses_its_sessions_and_what_ran_goes_on_after_the_next_start()
    {
        await using var server = await SandboxServer.StartAsync(null, "--warm-pool", "0");
        var api = server.Api;
        var session = Text(await api.CreateSessionAsync(), "id");
        var job = Text(await api.StartShellAsync(session, "for i in $(seq 1 30); do echo $i; sleep 0.1; done"), "id");
        await foreach (var _ in api.FollowAsync(session, job))
        {
            break;
        }

        Assert.Equal(0, await server.StopAsync());
        await server.RestartAsync();

        // It was paused, and as something ran in it, it goes on by itself: on a slow machine that has begun before anybody can look. Any call wakes it, too.
        Assert.Contains(Text(await api.GetAsync($"/v1/sessions/{session}"), "state"), (string[])["paused", "resuming", "running"]);
        await api.ShellAsync(session, "true");
        var whole = await api.FinishAsync(session, job);
        Assert.Equal(string.Concat(Enumerable.Range(1, 30).Select(i => $"{i}\n")), whole.Stdout);
        Assert.Equal(0, whole.ExitCode);
        Assert.Empty((await api.GetAsync($"/v1/sessions/{session}"))["recoveries"]!.AsArray());
        await api.DeleteSessionAsync(session);
    }

    [Fact]
    public async Task A_deleted_session_leaves_no_process_disk_or_output()
    {
        await using var server = await SandboxServer.StartAsync(null, "--warm-pool", "0");
        var session = Text(await server.Api.CreateSessionAsync(), "id");
        await server.Api.ShellAsync(session, "echo something");
        var machines = Machines.Of(server.ProcessId);

        var ended = await server.Api.DeleteSessionAsync(session);

        Assert.Equal("terminated", Text(ended, "state"));
        await Machines.AssertGoneAsync(machines);
        Assert.DoesNotContain(Directory.EnumerateFileSystemEntries(server.DataDirectory, "*", SearchOption.AllDirectories), p => p.Contains(session, StringComparison.Ordinal));
        using var refused = await server.Http.PostAsync(
            new Uri($"/v1/sessions/{session}/executions", UriKind.Relative), new StringContent("{\"shell\":\"true\"}", Encoding.UTF8, "application/json"));
        Assert.Equal(HttpStatusCode.Conflict, refused.StatusCode);
    }

    [Fact]
    public async Task The_same_idempotency_key_makes_one_session()
    {
        await using var server = await SandboxServer.StartAsync();

        var first = await server.Api.CreateSessionAsync(new JsonObject { ["template"] = "python" }, "key-1");
        var second = await server.Api.CreateSessionAsync(new JsonObject { ["template"] = "python" }, "key-1");

        Assert.Equal(Text(first, "id"), Text(second, "id"));
        Assert.Single((await server.Api.GetAsync("/v1/sessions"))["sessions"]!.AsArray());
    }
}
