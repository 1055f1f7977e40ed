using System.Globalization;
using System.Text.Json.Nodes;
using Sandbox.EndToEnd.Tests.Harness;
using Xunit;
using static Sandbox.EndToEnd.Tests.Harness.SandboxApi;

namespace Sandbox.EndToEnd.Tests.Sessions;

/// <summary>Sessions that are handed a machine which was made before they came.</summary>
public sealed class WarmStartTests
{
    [Fact]
    public async Task Sessions_come_from_the_pool_with_warm_interpreters_and_share_nothing()
    {
        await using var server = await SandboxServer.StartAsync();
        var api = server.Api;
        var told = new List<string[]>();
        for (var i = 0; i < 2; i++)
        {
            await UntilWarmAsync(api);
            var session = await api.CreateSessionAsync();
            Assert.Equal("pool", Text(session, "startMethod"));
            var id = Text(session, "id");

            var code = await api.FinishAsync(id, Text(await api.StartAsync(id, new JsonObject
            {
                ["code"] = "import sys, os, random\nprint('pandas' in sys.modules)\nprint(os.urandom(8).hex())\nprint(random.random())\nimport time; print(int(time.time()))",
            }), "id"));
            var lines = code.Stdout.Split('\n', StringSplitOptions.RemoveEmptyEntries);
            Assert.Equal("True", lines[0]);
            var now = DateTimeOffset.UtcNow.ToUnixTimeSeconds();
            Assert.InRange(long.Parse(lines[3], CultureInfo.InvariantCulture), now - 60, now + 2);
            var shell = await api.ShellAsync(id, "hostname; cat /etc/machine-id; echo mine > $HOME/mine; ls $HOME");
            told.Add([lines[1], lines[2], .. shell.Stdout.Split('\n')[..2]]);
            Assert.EndsWith(id[^8..], shell.Stdout.Split('\n')[0], StringComparison.Ordinal);
            Assert.True(File.Exists(Path.Combine(server.DataDirectory, "sessions", id, "disk.img")));
        }

        Assert.All(told[0].Zip(told[1]), pair => Assert.NotEqual(pair.First, pair.Second));
        Assert.Equal(0, await server.StopAsync());
        Assert.Empty(Directory.GetFiles(Path.Combine(server.DataDirectory, "pool")));
    }

    [Fact]
    public async Task A_session_from_the_pool_survives_the_death_of_its_server_with_its_files()
    {
        await using var server = await SandboxServer.StartAsync();
        await UntilWarmAsync(server.Api);
        var session = await server.Api.CreateSessionAsync();
        Assert.Equal("pool", Text(session, "startMethod"));
        await server.Api.ShellAsync(Text(session, "id"), "echo kept > $HOME/file; sync");

        await server.KillAsync();
        await server.RestartAsync();

        // A boot under emulation on a busy machine takes longer than a call waits; "try again later" is the answer then.
        var kept = await Patience.EventuallyAsync(() => server.Api.ShellAsync(Text(session, "id"), "cat $HOME/file"));
        Assert.Equal("kept\n", kept.Stdout);
        Assert.Equal("boot", Text(await server.Api.GetAsync($"/v1/sessions/{Text(session, "id")}"), "startMethod"));
    }

    private static Task UntilWarmAsync(SandboxApi api)
    {
        // A host reports every two seconds: what it said before the last claim is of no use.
        var since = DateTimeOffset.UtcNow;
        return api.UntilHostsAsync(hosts => hosts.Any(h => (int?)h!["warm"]?["python"] > 0 && (DateTimeOffset)h["at"]! > since), TimeSpan.FromMinutes(2));
    }
}
