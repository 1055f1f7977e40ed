using System.Diagnostics;
using Sandbox.Guest.Protocol;
using Sandbox.Isolation.Guest;

namespace Sandbox.Guest.Agent.Tests;

/// <summary>Which files an execution is said to have made or changed.</summary>
public sealed class ChangedFilesTests : IAsyncLifetime
{
    private readonly AgentFixture _agent = new();
    private GuestConnection _guest = null!;
    private string _folder = "";

    public async ValueTask InitializeAsync()
    {
        _guest = await _agent.ConnectAsync();
        _folder = Path.Combine(_agent.Folder, "work");
        Directory.CreateDirectory(_folder);
        File.SetUnixFileMode(_folder, (UnixFileMode)0x1ff);
    }

    public ValueTask DisposeAsync() => _agent.DisposeAsync();

    [Fact]
    public async Task What_was_created_changed_or_moved_in_is_named_and_nothing_else()
    {
        File.WriteAllText(Path.Combine(_folder, "old"), "old");
        File.WriteAllText(Path.Combine(_folder, "changed"), "old");
        File.SetUnixFileMode(Path.Combine(_folder, "changed"), (UnixFileMode)0x1b6);
        var outcome = await RunAsync(
            "cat old; echo x >> changed; echo new > new; mkdir -p a/b/c; echo deep > a/b/c/deep; echo t > gone; rm gone; "
            + "ln -s /etc/shadow link; mkfifo pipe; echo 1 > \"$T\"; mv \"$T\" moved; mkdir .git node_modules; echo h > .git/h; echo n > node_modules/n; mkdir d1; echo f > d1/f; mv d1 d2; printf x > $'a\\nb'; truncate -s 10G sparse");
        Assert.Equal(["a\nb", "a/b/c/deep", "changed", "d2/f", "moved", "new", "sparse"], Names(outcome));
        var sparse = outcome.Files.Single(f => f.Path.EndsWith("sparse", StringComparison.Ordinal));
        Assert.Equal((10UL << 30, true), (sparse.Size, sparse.Blocks < 100));
        Assert.True(outcome.Outcome.Events[^1].Exited is not null && outcome.Outcome.Events[^2].ChangedFiles is { More: 0 });

        // Nothing, and not asked for.
        Assert.Empty((await RunAsync("cat old new")).Files);
        var silent = Starting.Shell("echo x > y");
        silent.Cwd = _folder;
        Assert.DoesNotContain((await _guest.RunAsync(silent)).Events, e => e.ChangedFiles is not null);
    }

    [Fact]
    public async Task A_limit_names_the_first_and_counts_the_rest()
    {
        var outcome = await RunAsync("for i in $(seq -w 1 50); do : > f$i; done; for i in $(seq 1 30); do : > t$i; rm t$i; done", limit: 5);
        Assert.Equal(["f01", "f02", "f03", "f04", "f05"], Names(outcome));
        Assert.Equal(45u, outcome.More);

        // Far more than is remembered.
        outcome = await RunAsync("mkdir m; cd m; seq 1 12000 | xargs -n 2000 touch");
        Assert.Equal(100, outcome.Files.Count);
        Assert.InRange(outcome.More, 1u, 12_000u);
        Assert.True(_agent.IsAlive);
    }

    [Theory]
    [InlineData("python", "open('made', 'w').write('x')", "import os; os.mkdir('sub'); os.chdir('sub')")]
    [InlineData("javascript", "require('fs').writeFileSync('made', 'x')", "require('fs').mkdirSync('sub'); process.chdir('sub')")]
    [InlineData("bash", "echo x > made", "mkdir sub; cd sub")]
    public async Task Code_is_watched_where_its_context_is(string language, string make, string leave)
    {
        Assert.Equal(Response.ResultOneofCase.Context, (await _guest.CreateContextAsync("c", language, _folder)).ResultCase);
        Assert.Equal(["made"], Names(await RunAsync(WithArtifacts(Starting.Code("c", make)))));
        Assert.Empty(Names(await RunAsync(WithArtifacts(Starting.Code("c", leave)))));
        Assert.Equal(["sub/made"], Names(await RunAsync(WithArtifacts(Starting.Code("c", make)))));
    }

    [Fact]
    public async Task Files_for_the_host_may_lie_in_a_directory_of_their_own()
    {
        Assert.SkipWhen(Directory.Exists("/tmp/artifacts"), "/tmp/artifacts is there already.");
        try
        {
            var outcome = await RunAsync("mkdir /tmp/artifacts; echo x > /tmp/artifacts/x");
            Assert.Equal("/tmp/artifacts/x", Assert.Single(outcome.Files).Path);
            outcome = await RunAsync("echo y > /tmp/artifacts/y");
            Assert.Equal("/tmp/artifacts/y", Assert.Single(outcome.Files).Path);
        }
        finally
        {
            Directory.Delete("/tmp/artifacts", recursive: true);
        }
    }

    [Fact]
    public async Task A_watch_costs_a_short_command_little()
    {
        for (var i = 0; i < 100; i++)
        {
            Directory.CreateDirectory(Path.Combine(_folder, "d" + i));
        }

        var times = new double[2];
        for (var round = 0; round < 40; round++)
        {
            var start = round % 2 == 0 ? Starting.Command("true") : WithArtifacts(Starting.Command("true"));
            start.Cwd = _folder;
            var clock = Stopwatch.StartNew();
            await _guest.RunAsync(start);
            times[round % 2] += clock.Elapsed.TotalMilliseconds / 20;
        }

        TestContext.Current.TestOutputHelper!.WriteLine($"without {times[0]:0.00} ms, with {times[1]:0.00} ms");
        Assert.True(times[1] < times[0] + 50, $"without {times[0]:0.00} ms, with {times[1]:0.00} ms");
    }

    private static StartExecution WithArtifacts(StartExecution start, uint limit = 0)
    {
        start.Artifacts = new WatchArtifacts { Limit = limit };
        return start;
    }

    private IEnumerable<string> Names(Changed changed) => changed.Files.Select(f => Path.GetRelativePath(_folder, f.Path));

    private Task<Changed> RunAsync(string script, uint limit = 0)
    {
        var start = WithArtifacts(Starting.Shell(script), limit);
        start.Cwd = _folder;
        start.Env["T"] = Path.Combine(_agent.Folder, "outside");
        return RunAsync(start);
    }

    private async Task<Changed> RunAsync(StartExecution start)
    {
        var outcome = await _guest.RunAsync(start);
        var changed = outcome.Events.SingleOrDefault(e => e.ChangedFiles is not null)?.ChangedFiles;
        return new Changed(outcome, [.. changed?.Files ?? []], changed?.More ?? 0);
    }

    private sealed record Changed(Outcome Outcome, List<ChangedFile> Files, uint More);
}
