using Sandbox.Cli.Commands;
using Sandbox.Cli.Runs;
using Sandbox.Cli.Terminal;
using Xunit;

namespace Sandbox.Cli.Tests;

public sealed class CommandLineTests
{
    [Theory]
    [InlineData("run job.py -v --help", "run -- job.py -v --help")]
    [InlineData("run --timeout 5 -v job.py --timeout 9", "run --timeout 5 -v -- job.py --timeout 9")]
    [InlineData("run -c code -x", "run -c code -x")]
    [InlineData("run -c code a -x", "run -c code -- a -x")]
    [InlineData("run --timeout=5 job.py -x", "run --timeout=5 -- job.py -x")]
    [InlineData("run -- job.py", "run -- job.py")]
    [InlineData("session exec ses_1 ls -la", "session exec ses_1 -- ls -la")]
    [InlineData("session exec --cwd / ses_1 -- ls -la", "session exec --cwd / ses_1 -- ls -la")]
    [InlineData("session exec --no-wake ses_1 ls --no-wake", "session exec --no-wake ses_1 -- ls --no-wake")]
    [InlineData("serve --dev", "serve --dev")]
    public void What_comes_after_the_file_belongs_to_the_code(string line, string expected) =>
        Assert.Equal(expected.Split(' '), Passthrough.Mark(Root.Create(new Say()), line.Split(' ')));

    [Theory]
    [InlineData("x.py", null, "python3")]
    [InlineData("x.JS", null, "node")]
    [InlineData("x.mjs", null, "node")]
    [InlineData("x.sh", null, "bash")]
    [InlineData("x", "python", "python3")]
    [InlineData(null, null, "python3")]
    [InlineData(null, "javascript", "node")]
    public void The_language_is_by_name_or_by_word(string? file, string? word, string program) => Assert.Equal(program, Language.Choose(word, file).Program);

    [Theory]
    [InlineData("x.rb", null)]
    [InlineData("x", null)]
    [InlineData("x.py", "cobol")]
    public void An_unknown_language_is_a_usage_error(string file, string? word) =>
        Assert.Equal(ExitCodes.Usage, Assert.Throws<UserException>(() => Language.Choose(word, file)).ExitCode);

    [Theory]
    [InlineData("512", 512)]
    [InlineData("512M", 512)]
    [InlineData("2G", 2048)]
    [InlineData("2GiB", 2048)]
    [InlineData("0", null)]
    [InlineData("-1", null)]
    [InlineData("much", null)]
    [InlineData("99999999999G", null)]
    [InlineData("", null)]
    public void Sizes_are_read(string text, int? expected) => Assert.Equal(expected, Sizes.ParseMiB(text));

    [Theory]
    [InlineData("90", 90.0)]
    [InlineData("1.5s", 1.5)]
    [InlineData("5m", 300.0)]
    [InlineData("2h", 7200.0)]
    [InlineData("1d", 86400.0)]
    [InlineData("0", null)]
    [InlineData("-5", null)]
    [InlineData("soon", null)]
    [InlineData("m", null)]
    [InlineData("", null)]
    public void Durations_are_read(string text, double? expected) => Assert.Equal(expected, Sizes.ParseDuration(text)?.TotalSeconds);

    [Theory]
    [InlineData("ses_1:a/b", "ses_1", "a/b")]
    [InlineData("ses_1:", "ses_1", "")]
    [InlineData("a:b", null, null)]
    [InlineData("/tmp/x", null, null)]
    public void A_remote_path_names_a_session(string text, string? session, string? path)
    {
        var remote = CopyCommand.Remote(text);

        Assert.Equal((session, path), (remote?.Session, remote?.Path));
    }

    [Theory]
    [InlineData(0, "--help", "Commands:")]
    [InlineData(0, "run --help", "Exit codes:")]
    [InlineData(0, "serve --help", "SANDBOX_DATA_DIRECTORY")]
    [InlineData(0, "session --help", "sandbox session shell")]
    [InlineData(0, "image build --help", "--force")]
    [InlineData(2, "run", "nothing to run")]
    [InlineData(2, "run no-such-file.py", "no-such-file.py")]
    [InlineData(2, "run --timeout soon -c 1", "--timeout")]
    [InlineData(2, "dance", "dance")]
    [InlineData(2, "session show", "id")]
    [InlineData(0, "session pause --help", "Its processes, variables and files")]
    [InlineData(0, "session create --help", "--checkpoint-after-execution")]
    [InlineData(0, "session exec --help", "--no-wake")]
    [InlineData(2, "session create --idle-action sleep", "terminate")]
    [InlineData(2, "session create --checkpoint-every often", "--checkpoint-every")]
    [InlineData(2, "session create --from ses_1", "SESSION/CHECKPOINT")]
    [InlineData(2, "session fork ses_1 --count 0", "1 to 100")]
    [InlineData(2, "session fork ses_1 --count 101", "1 to 100")]
    [InlineData(2, "session fork ses_1 --count two", "two")]
    [InlineData(2, "session rollback ses_1", "checkpoint")]
    [InlineData(2, "session ls --server ftp://x", "ftp://x")]
    [InlineData(125, "session ls --server http://127.0.0.1:9", "sandbox serve")]
    [InlineData(2, "db migrate", "SANDBOX_POSTGRES")]
    [InlineData(1, "serve --dev --urls http://0.0.0.0:0", "loopback")]
    [InlineData(1, "serve --max-memory lots", "memoryMiB")]
    public async Task Help_and_errors_say_what_to_do(int exitCode, string line, string expected)
    {
        var (code, output, error) = await SandboxProgram.RunAsync(line.Split(' '));
        var both = output + error;

        Assert.True(code == exitCode, $"{code}: {both}");
        Assert.Contains(expected, both, StringComparison.Ordinal);
        Assert.DoesNotContain("   at Sandbox.", both, StringComparison.Ordinal);
        Assert.DoesNotContain('\u001b', both);
    }
}
