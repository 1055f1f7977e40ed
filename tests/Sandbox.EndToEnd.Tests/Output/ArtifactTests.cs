using System.Net;
using System.Security.Cryptography;
using System.Text.Json.Nodes;
using Sandbox.EndToEnd.Tests.Harness;
using Xunit;
using static Sandbox.EndToEnd.Tests.Harness.SandboxApi;

namespace Sandbox.EndToEnd.Tests.Output;

/// <summary>Files that code leaves come back with its output, and nothing that hostile code leaves does harm.</summary>
[Collection(ServerGroup.Name)]
public sealed class ArtifactTests(ServerFixture fixture) : IAsyncLifetime
{
    private readonly SandboxApi _api = fixture.Api;
    private string _session = "";

    public async ValueTask InitializeAsync() => _session = Text(await _api.CreateSessionAsync(), "id");

    public async ValueTask DisposeAsync() => await _api.DeleteSessionAsync(_session);

    [Fact]
    public async Task A_plot_and_a_table_are_results_and_files()
    {
        var (events, artifacts) = await RunAsync(new JsonObject
        {
            ["code"] = """
                import pandas as pd, numpy as np, matplotlib.pyplot as plt, random
                frame = pd.DataFrame({'n': range(20000), 'x': [random.random() for _ in range(20000)]})
                frame.to_csv('numbers.csv', index=False)
                plt.imsave('noise.png', np.random.rand(300, 300, 3))
                open('note.txt', 'w').write('small')
                plt.bar(['a', 'b'], [1, 2])
                plt.savefig('bars.svg')
                frame.head(2)
                """,
        });

        var table = events.Single(e => e.Kind == "result" && e.Data["isMain"]!.GetValue<bool>()).Data["data"]!;
        Assert.Contains("<table", table["text/html"]!.ToString());
        Assert.Equal(2, JsonNode.Parse(table["application/vnd.sandbox.table+json"]!.ToString())!["rows"]!.GetValue<int>());
        var figure = events.Single(e => e.Kind == "result" && !e.Data["isMain"]!.GetValue<bool>()).Data["data"]!;
        Assert.Equal("bar", JsonNode.Parse(figure["application/vnd.sandbox.chart+json"]!.ToString())!["type"]!.ToString());
        Assert.Equal([0x89, (byte)'P'], Convert.FromBase64String(figure["image/png"]!.ToString())[..2]);

        Assert.Equal(["bars.svg", "noise.png", "note.txt", "numbers.csv"], artifacts.Keys.Order(StringComparer.Ordinal));
        Assert.Equal("small"u8.ToArray(), Convert.FromBase64String(artifacts["note.txt"]["inline"]!.ToString()));
        Assert.Equal(("image/svg+xml", "text/plain"), (artifacts["bars.svg"]["mimeType"]!.ToString(), artifacts["numbers.csv"]["mimeType"]!.ToString()));
        await FetchAsync(artifacts["noise.png"], "image/png");
        await FetchAsync(artifacts["numbers.csv"], "text/plain");

        // Read again, later, the events are the same; the address is signed anew.
        var page = await _api.GetAsync($"/v1/sessions/{_session}/artifacts/art_00000000000000000000000000").ContinueWith(t => t.IsFaulted, TaskScheduler.Default);
        Assert.True(page);
        using var forged = await fixture.Server.Http.GetAsync(new Uri(artifacts["noise.png"]["url"]!.ToString()[..^4] + "AAAA", UriKind.Relative));
        Assert.Equal(HttpStatusCode.Forbidden, forged.StatusCode);
    }

    [Fact]
    public async Task Hostile_files_are_named_bounded_and_not_followed()
    {
        var (events, artifacts) = await RunAsync(new JsonObject
        {
            ["artifacts"] = true,
            ["shell"] = """
                printf '<html><script>1</script>' > picture.png; ln -s /etc/shadow shadow; ln -s / root; truncate -s 10G sparse; printf x > $'two\nlines\033[31m'
                python3 -c "import zipfile; z = zipfile.ZipFile('bomb.zip', 'w', zipfile.ZIP_DEFLATED); z.writestr('x', bytes(20 << 20)); z.close()"
                head -c 40000000 /dev/zero > large; printf secret > mine; chmod 000 mine; mkfifo pipe; : > empty
                mkdir zzz; cd zzz; seq 1 300 | xargs touch
                """,
        });

        Assert.Equal("text/html", artifacts["picture.png"]["mimeType"]!.ToString());
        Assert.False(artifacts.ContainsKey("shadow"));
        Assert.Equal(10L << 30, artifacts["sparse"]["size"]!.GetValue<long>());
        Assert.Contains("larger than", artifacts["sparse"]["skipped"]!.ToString());
        Assert.Contains("larger than", artifacts["large"]["skipped"]!.ToString());
        Assert.Contains("could not be read", artifacts["mine"]["skipped"]!.ToString());
        Assert.True(artifacts.ContainsKey("two\nlines\u001b[31m"));
        Assert.InRange(artifacts["bomb.zip"]["size"]!.GetValue<long>(), 1, 100_000);
        Assert.Equal("application/zip", artifacts["bomb.zip"]["mimeType"]!.ToString());
        Assert.Equal(100, artifacts.Count);
        Assert.Contains(events, e => e.Kind == "notice" && e.Data["text"]!.ToString().Contains("more files", StringComparison.Ordinal));
        Assert.Equal("exit", events[^1].Kind);
    }

    [Fact]
    public async Task A_watch_goes_on_after_a_pause()
    {
        var execution = Text(await _api.StartAsync(_session, new JsonObject { ["artifacts"] = true, ["shell"] = "echo 1 > early; echo ready; read go; echo 2 > late", ["openStdin"] = true }), "id");
        await foreach (var item in _api.FollowAsync(_session, execution))
        {
            if (item.Kind == "stdout")
            {
                break;
            }
        }

        await _api.PostAsync($"/v1/sessions/{_session}/pause?wait=60");
        await _api.PostAsync($"/v1/sessions/{_session}/resume?wait=60");
        await _api.StdinAsync(_session, execution, "go\n");
        var finished = await _api.FinishAsync(_session, execution);
        Assert.Equal(["/home/user/early", "/home/user/late"], finished.Events.Where(e => e.Kind == "artifact").Select(e => e.Data["path"]!.ToString()));
        Assert.Equal(0, finished.ExitCode);
    }

    private async Task<(List<OutputItem> Events, Dictionary<string, JsonNode> Artifacts)> RunAsync(JsonObject body)
    {
        var execution = Text(await _api.StartAsync(_session, body), "id");
        var events = new List<OutputItem>();
        await foreach (var item in _api.FollowAsync(_session, execution))
        {
            events.Add(item);
        }

        var exit = events[^1].Data;
        var errors = string.Concat(events.Where(e => e.Kind is "stderr" or "codeError").Select(e => e.Data.ToJsonString()));
        Assert.True(exit["exitCode"]!.GetValue<int>() == 0, exit.ToJsonString() + errors);
        return (events, events.Where(e => e.Kind == "artifact").ToDictionary(e => e.Data["path"]!.ToString().Replace("/home/user/", "", StringComparison.Ordinal), e => e.Data));
    }

    /// <summary>Fetches a stored one both ways.</summary>
    private async Task FetchAsync(JsonNode artifact, string type)
    {
        Assert.Null(artifact["inline"]);
        foreach (var path in new[] { $"/v1/sessions/{_session}/artifacts/{artifact["id"]}", artifact["url"]!.ToString() })
        {
            using var answer = await fixture.Server.Http.GetAsync(new Uri(path, UriKind.Relative));
            Assert.Equal(HttpStatusCode.OK, answer.StatusCode);
            var bytes = await answer.Content.ReadAsByteArrayAsync();
            Assert.Equal(artifact["size"]!.GetValue<long>(), bytes.Length);
            Assert.Equal(artifact["sha256"]!.ToString(), Convert.ToHexStringLower(SHA256.HashData(bytes)));
            Assert.Equal(type, answer.Content.Headers.ContentType!.MediaType);
            Assert.Equal("attachment", answer.Content.Headers.ContentDisposition!.DispositionType);
            Assert.Equal("nosniff", answer.Headers.GetValues("X-Content-Type-Options").Single());
        }
    }
}
