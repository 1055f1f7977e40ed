using System.Net;
using System.Text.Json.Nodes;
using Sandbox.EndToEnd.Tests.Harness;
using Xunit;
using static Sandbox.EndToEnd.Tests.Harness.SandboxApi;

namespace Sandbox.EndToEnd.Tests.Egress;

/// <summary>What becomes of connections when a machine is copied.</summary>
[Collection(OutsideWorld.Name)]
public sealed class EgressCopiesTests(OutsideWorld world)
{
    /// <summary>Connections to itself, over loopback and between two addresses, over which something is said once a file is there.</summary>
    private const string Inside = """
        import os, socket, subprocess, time
        subprocess.run(["sudo", "ip", "addr", "add", "192.0.2.9/32", "dev", "lo"], check=True)
        listening = socket.create_server(("0.0.0.0", 7000))
        loop = socket.create_connection(("127.0.0.1", 7000))
        heard = [listening.accept()[0]]
        far = socket.socket()
        far.bind(("10.53.0.2", 0))
        far.connect(("192.0.2.9", 7000))
        heard.append(listening.accept()[0])
        print("joined", flush=True)
        while not os.path.exists("/tmp/go"): time.sleep(0.1)
        loop.sendall(b"still ")
        far.sendall(b"here")
        open("/tmp/heard", "wb").write(b"".join(s.recv(100) for s in heard))
        """;

    private SandboxApi Api => world.SandboxApi;

    [Fact]
    public async Task A_copy_lets_go_of_connections_to_the_outside_and_keeps_those_inside_and_the_original_keeps_both()
    {
        var original = Text(await Api.CreateSessionAsync(new JsonObject
        {
            ["egress"] = JsonNode.Parse("""{"rules": [{"action": "allow", "host": "api.test"}]}"""), ["needs"] = new JsonObject { ["network"] = true },
        }), "id");
        await Api.ShellAsync(original, $"cat > /tmp/inside.py <<'END'\n{Inside}\nEND");
        await FirstWordsAsync(original, "python3 /tmp/inside.py");

        // It only waits for data, so nothing that it sends could tell it.
        await FirstWordsAsync(original, "curl -sSNk https://api.test/wait; echo $? > /tmp/ended");
        await FirstWordsAsync(original, "curl -sSN http://api.test/wait; echo $? > /tmp/ended2");

        var forks = (await Api.PostAsync($"/v1/sessions/{original}/fork?wait=60", new { count = 2 }, HttpStatusCode.Created))["sessions"]!.AsArray().Select(s => Text(s!, "id")).ToList();
        var checkpoint = Text(await Api.PostAsync($"/v1/sessions/{original}/checkpoints", new { name = "now" }, HttpStatusCode.Created), "id");
        foreach (var fork in forks)
        {
            await AssertLetGoAsync(fork);
            await Api.DeleteSessionAsync(fork);
        }

        // Everything of the original's goes on. In place, from a checkpoint, it is a copy too.
        Assert.Equal(0, (await Api.ShellAsync(original, "sleep 3; test ! -e /tmp/ended -a ! -e /tmp/ended2")).ExitCode);
        await Api.PostAsync($"/v1/sessions/{original}/checkpoints/{checkpoint}/rollback?wait=60");
        await AssertLetGoAsync(original);
        Assert.Equal(0, (await Api.ShellAsync(original, "curl -sSk https://api.test/public/1")).ExitCode);
        await Api.DeleteSessionAsync(original);
    }

    private async Task AssertLetGoAsync(string id)
    {
        var ended = await Api.ShellAsync(id, "touch /tmp/go; for i in $(seq 60); do [ -s /tmp/ended -a -s /tmp/ended2 -a -s /tmp/heard ] && break; sleep 0.25; done; cat /tmp/ended /tmp/ended2 /tmp/heard");
        var lines = ended.Stdout.Split('\n');
        Assert.True(lines.Length == 3 && lines[..2].All(l => l is not ("" or "0")) && lines[2] == "still here", ended.Stdout);
    }

    private async Task FirstWordsAsync(string id, string command)
    {
        var execution = Text(await Api.StartShellAsync(id, command), "id");
        await foreach (var item in Api.FollowAsync(id, execution))
        {
            Assert.True(item.Kind == "stdout", item.Data.ToJsonString());
            return;
        }
    }
}
