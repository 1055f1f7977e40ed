using System.Text.Json.Nodes;
using Sandbox.EndToEnd.Tests.Harness;
using Sandbox.TestSupport;
using Xunit;

namespace Sandbox.EndToEnd.Tests.Cli;

/// <summary>The main job, as <c>./scripts/run</c> starts it.</summary>
[Collection(ServerGroup.Name)]
public sealed class RunTests(ServerFixture fixture) : IDisposable
{
    private readonly string _directory = Directory.CreateTempSubdirectory("sandbox-run-").FullName;

    public void Dispose() => Directory.Delete(_directory, recursive: true);

    [Fact]
    public async Task The_example_analyses_its_data_and_its_artifacts_come_back()
    {
        var examples = Path.Combine(Repository.Root, "examples");

        var run = await RunAsync(
            "run", "--with", Path.Combine(examples, "sales.csv"), "--artifacts", Path.Combine(_directory, "artifacts"), Path.Combine(examples, "analysis.py"), "sales.csv");

        Assert.True(run.ExitCode == 0, run.Stdout + run.Stderr);
        var files = Directory.GetFiles(Path.Combine(_directory, "artifacts"), "*", SearchOption.AllDirectories);
        var png = Assert.Single(files, f => f.EndsWith(".png", StringComparison.Ordinal));
        Assert.Equal([0x89, (byte)'P', (byte)'N', (byte)'G'], File.ReadAllBytes(png)[..4]);
        var csv = Assert.Single(files, f => f.EndsWith(".csv", StringComparison.Ordinal));
        Assert.True(File.ReadLines(csv).Count() > 2);
        Assert.Contains(Path.GetFileName(png), run.Stdout + run.Stderr, StringComparison.Ordinal);
    }

    [Fact]
    public async Task The_exit_code_and_both_outputs_are_the_codes()
    {
        var run = await RunAsync("run", "-c", "import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)");

        Assert.Equal(3, run.ExitCode);
        Assert.Equal("out\n", run.Stdout);
        Assert.Contains("err\n", run.Stderr, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("hello.js", "console.log('js', process.argv.slice(2).join('+'))", "js a+b\n")]
    [InlineData("hello.sh", "echo sh \"$1+$2\"", "sh a+b\n")]
    [InlineData("hello.py", "import sys; print('py', '+'.join(sys.argv[1:]))", "py a+b\n")]
    public async Task A_file_runs_in_the_language_of_its_name_with_its_arguments(string name, string source, string expected)
    {
        var file = Path.Combine(_directory, name);
        await File.WriteAllTextAsync(file, source);

        var run = await RunAsync("run", file, "a", "b");

        Assert.True(run.ExitCode == 0, run.Stderr);
        Assert.Equal(expected, run.Stdout);
    }

    [Fact]
    public async Task A_timeout_is_124_and_says_why()
    {
        var run = await RunAsync("run", "--timeout", "2", "-c", "while True: pass");

        Assert.Equal(124, run.ExitCode);
        Assert.Contains("time", run.Stderr, StringComparison.OrdinalIgnoreCase);
    }

    [Fact]
    public async Task Sessions_are_made_used_copied_to_and_removed()
    {
        var created = JsonNode.Parse((await RunAsync("session", "create", "--json")).Stdout)!;
        var id = created["id"]!.ToString();
        var local = Path.Combine(_directory, "data.bin");
        await File.WriteAllBytesAsync(local, [.. Enumerable.Range(0, 100_000).Select(i => (byte)(i * 7))]);

        Assert.Equal(0, (await RunAsync("session", "cp", local, $"{id}:copy.bin")).ExitCode);
        var counted = await RunAsync("session", "exec", id, "--", "wc", "-c", "/home/user/copy.bin");
        Assert.Equal(0, (await RunAsync("session", "cp", $"{id}:copy.bin", Path.Combine(_directory, "back.bin"))).ExitCode);
        var listed = await RunAsync("session", "ls");
        var removed = await RunAsync("session", "rm", id);

        Assert.StartsWith("100000 ", counted.Stdout, StringComparison.Ordinal);
        Assert.Equal(await File.ReadAllBytesAsync(local), await File.ReadAllBytesAsync(Path.Combine(_directory, "back.bin")));
        Assert.Contains(id, listed.Stdout, StringComparison.Ordinal);
        Assert.Equal(0, removed.ExitCode);
    }

    [Fact]
    public async Task A_file_that_is_not_there_is_a_clear_error()
    {
        var run = await RunAsync("run", "no-such-file.py");

        Assert.NotEqual(0, run.ExitCode);
        Assert.Contains("no-such-file.py", run.Stderr, StringComparison.Ordinal);
    }

    private Task<CommandResult> RunAsync(params string[] arguments) =>
        CommandLine.RunAsync(new Dictionary<string, string> { ["SANDBOX_URL"] = fixture.Server.Url.ToString() }, _directory, arguments);
}
