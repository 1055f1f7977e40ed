using System.Text;
using Sandbox.Guest.Protocol;
using Sandbox.Isolation.Guest;

namespace Sandbox.Guest.Agent.Tests;

public sealed class CommandTests : IAsyncLifetime
{
    private readonly AgentFixture _agent = new();
    private GuestConnection _guest = null!;

    public async ValueTask InitializeAsync() => _guest = await _agent.ConnectAsync();

    public ValueTask DisposeAsync() => _agent.DisposeAsync();

    [Fact]
    public async Task Output_is_split_and_the_exit_code_told()
    {
        var outcome = await _guest.RunAsync(Starting.Shell("echo out; echo err >&2; exit 7"));
        Assert.Equal("out\n", outcome.Stdout);
        Assert.Equal("err\n", outcome.Stderr);
        Assert.Equal(7, outcome.Exited.ExitCode);
        Assert.Equal(0, outcome.Exited.Signal);
    }

    [Fact]
    public async Task Environment_directory_and_user_are_as_asked()
    {
        var start = Starting.Command("sh", "-c", "pwd; echo $HOME $USER $GREETING $LANG; ls -l /proc/self/fd | grep -c -- '->'");
        start.Cwd = _agent.Folder;
        start.Env["GREETING"] = "hi";
        var lines = (await _guest.RunAsync(start)).Stdout.Split('\n');
        Assert.Equal(_agent.Folder, lines[0]);
        Assert.EndsWith("hi C.UTF-8", lines[1]);

        // 0, 1, 2 and the directory ls reads: nothing of the agent's leaks into a program.
        Assert.Equal("4", lines[2]);
    }

    [Theory]
    [InlineData("/no/such/program", "/", ErrorCode.NotFound)]
    [InlineData("no-such-program", "/", ErrorCode.NotFound)]
    [InlineData("/etc/passwd", "/", ErrorCode.PermissionDenied)]
    [InlineData("true", "/no/such/directory", ErrorCode.NotFound)]
    public async Task What_cannot_start_says_why(string program, string cwd, ErrorCode code)
    {
        var start = Starting.Command(program);
        start.Cwd = cwd;
        var e = await Assert.ThrowsAsync<GuestException>(() => _guest.StartExecutionAsync(start, CancellationToken.None));
        Assert.Equal(code, e.Code);
        Assert.NotEqual(0, e.Errno);
    }

    [Fact]
    public async Task A_script_without_interpreter_line_runs_in_a_shell()
    {
        var script = Path.Combine(_agent.Folder, "script");
        await File.WriteAllTextAsync(script, "echo plain $1");
        File.SetUnixFileMode(script, (UnixFileMode)0x1ed);
        Assert.Equal("plain x\n", (await _guest.RunAsync(Starting.Command(script, "x"))).Stdout);
    }

    [Fact]
    public async Task A_signal_reaches_the_group_while_output_streams()
    {
        var execution = await _guest.StartExecutionAsync(Starting.Shell("while :; do echo tick; sleep 0.01; done"), CancellationToken.None);
        var sent = false;
        var outcome = await Outcome.OfAsync(execution, async (soFar, _) =>
        {
            if (!sent && soFar.Stdout.Length > 20)
            {
                sent = true;
                await execution.SignalAsync(15, CancellationToken.None);
            }
        });
        Assert.Equal(15, outcome.Exited.Signal);
        Assert.False(outcome.Exited.TimedOut);
    }

    [Fact]
    public async Task A_timeout_asks_first_and_then_kills_everything()
    {
        var start = Starting.Shell("trap 'echo got TERM' TERM; sleep 1000 & echo started; while :; do sleep 0.05; done");
        start.TimeoutMs = 700;
        start.GraceMs = 300;
        var outcome = await _guest.RunAsync(start);
        Assert.Contains("got TERM", outcome.Stdout);
        Assert.Equal(9, outcome.Exited.Signal);
        Assert.True(outcome.Exited.TimedOut);
    }

    [Fact]
    public async Task A_timeout_obeyed_within_grace_is_still_a_timeout()
    {
        var start = Starting.Shell("trap 'exit 3' TERM; while :; do sleep 0.05; done");
        start.TimeoutMs = 500;
        start.GraceMs = 60_000;
        var outcome = await _guest.RunAsync(start);
        Assert.True(outcome.Exited.TimedOut);
        Assert.Equal(3, outcome.Exited.ExitCode);
    }

    [Fact]
    public async Task Standard_input_arrives_whole_and_ends()
    {
        var start = Starting.Command("sha256sum");
        start.Command.OpenStdin = true;
        var execution = await _guest.StartExecutionAsync(start, CancellationToken.None);
        var data = new byte[3_000_001];
        Random.Shared.NextBytes(data);
        var writing = Task.Run(async () =>
        {
            await execution.WriteStdinAsync(data, endOfFile: false, CancellationToken.None);
            await execution.WriteStdinAsync(ReadOnlyMemory<byte>.Empty, endOfFile: true, CancellationToken.None);
        });
        var outcome = await Outcome.OfAsync(execution);
        await writing;
        Assert.StartsWith(Convert.ToHexStringLower(System.Security.Cryptography.SHA256.HashData(data)), outcome.Stdout);
    }

    [Fact]
    public async Task An_immediate_end_of_input_is_no_violation()
    {
        var start = Starting.Command("cat");
        start.Command.OpenStdin = true;
        var execution = await _guest.StartExecutionAsync(start, CancellationToken.None);
        await execution.WriteStdinAsync(ReadOnlyMemory<byte>.Empty, endOfFile: true, CancellationToken.None);
        Assert.Equal(0, (await Outcome.OfAsync(execution)).Exited.ExitCode);
        Assert.Equal("still here\n", (await _guest.RunAsync(Starting.Command("echo", "still here"))).Stdout);
    }

    [Fact]
    public async Task Input_nobody_reads_is_told_closed()
    {
        var start = Starting.Shell("exec <&-; sleep 1");
        start.Command.OpenStdin = true;
        var execution = await _guest.StartExecutionAsync(start, CancellationToken.None);
        var outcome = Outcome.OfAsync(execution);
        var closed = await Assert.ThrowsAsync<GuestException>(async () =>
        {
            while (true)
            {
                await execution.WriteStdinAsync(new byte[1000], endOfFile: false, CancellationToken.None);
            }
        });
        Assert.Equal(ErrorCode.Conflict, closed.Code);
        Assert.Single((await outcome).Events, e => e.StdinClosed is not null);
    }

    [Fact]
    public async Task Unacknowledged_output_blocks_the_process_and_not_the_agent()
    {
        var start = Starting.Command("yes");
        start.OutputWindow = 256 * 1024;
        var execution = await _guest.StartExecutionAsync(start, CancellationToken.None);
        var before = _agent.ResidentBytes;

        // Others are served meanwhile, for as long as it takes `yes` to fill its window many times over if it could.
        for (var i = 0; i < 20; i++)
        {
            Assert.Equal("ok\n", (await _guest.RunAsync(Starting.Command("echo", "ok"))).Stdout);
        }

        Assert.InRange(_agent.ResidentBytes - before, long.MinValue, 64 << 20);
        long received = 0;
        var outcome = await Outcome.OfAsync(execution, async (_, e) =>
        {
            received += e.Output?.Data.Length ?? 0;
            if (received > 3_000_000 && received - (e.Output?.Data.Length ?? 0) <= 3_000_000)
            {
                await execution.SignalAsync(9, CancellationToken.None);
            }
        });
        Assert.Equal(9, outcome.Exited.Signal);
        Assert.True(received > 3_000_000);
    }

    [Fact]
    public async Task A_background_child_keeps_running_with_its_pipes()
    {
        var marker = Path.Combine(_agent.Folder, "later");
        var go = Path.Combine(_agent.Folder, "go");
        var outcome = await _guest.RunAsync(Starting.Shell(
            $"(while [ ! -e {go} ]; do echo noise || exit 1; sleep 0.05; done; echo late && touch {marker}) & echo front"));
        Assert.StartsWith("front\n", outcome.Stdout.Replace("noise\n", "", StringComparison.Ordinal));
        Assert.Equal(0, outcome.Exited.ExitCode);
        await File.WriteAllTextAsync(go, "");
        await Eventually.IsAsync(() => File.Exists(marker));
    }

    [Fact]
    public async Task An_endless_background_writer_does_not_hold_the_exit_up()
    {
        var execution = await _guest.StartExecutionAsync(Starting.Shell("yes & echo $!; exit 5"), CancellationToken.None);
        var outcome = await Outcome.OfAsync(execution);
        Assert.Equal(5, outcome.Exited.ExitCode);
        var pid = outcome.Stdout.Split('\n').Select(l => l.Trim()).First(l => int.TryParse(l, out _));
        Assert.Equal(0, (await _guest.RunAsync(Starting.Command("kill", "-9", pid))).Exited.ExitCode);
    }

    [Fact]
    public async Task A_terminal_is_one_and_can_be_resized()
    {
        var start = Starting.Shell("test -t 0 && test -t 1 && echo tty; stty size; trap 'stty size; exit 4' WINCH; while :; do read -r -t 0.05 line && echo \"got $line\"; done");
        start.Command.Pty = new PtySize { Columns = 90, Rows = 33 };
        var execution = await _guest.StartExecutionAsync(start, CancellationToken.None);
        var step = 0;
        var outcome = await Outcome.OfAsync(execution, async (soFar, _) =>
        {
            if (step == 0 && soFar.Terminal.Contains("33 90", StringComparison.Ordinal))
            {
                step = 1;
                await execution.WriteStdinAsync(Encoding.UTF8.GetBytes("hello\n"), endOfFile: false, CancellationToken.None);
            }
            else if (step == 1 && soFar.Terminal.Contains("got hello", StringComparison.Ordinal))
            {
                step = 2;
                await execution.ResizeAsync(120, 40, CancellationToken.None);
            }
        });
        Assert.Contains("tty", outcome.Terminal);
        Assert.Contains("40 120", outcome.Terminal);
        Assert.Equal(4, outcome.Exited.ExitCode);
    }

    [Fact]
    public async Task Control_C_on_a_terminal_interrupts_and_control_D_ends()
    {
        var start = Starting.Command("cat");
        start.Command.Pty = new PtySize { Columns = 80, Rows = 24 };
        var interrupted = await _guest.StartExecutionAsync(start, CancellationToken.None);
        await interrupted.WriteStdinAsync(new byte[] { 3 }, endOfFile: false, CancellationToken.None);
        Assert.Equal(2, (await Outcome.OfAsync(interrupted)).Exited.Signal);

        start.ExecutionId += "b";
        var ended = await _guest.StartExecutionAsync(start, CancellationToken.None);
        await ended.WriteStdinAsync(ReadOnlyMemory<byte>.Empty, endOfFile: true, CancellationToken.None);
        Assert.Equal(0, (await Outcome.OfAsync(ended)).Exited.ExitCode);
    }

    [Fact]
    public async Task Many_at_once_keep_their_output_apart()
    {
        var runs = Enumerable.Range(0, 60).Select(i => _guest.RunAsync(Starting.Shell($"for n in 1 2 3 4 5; do echo {i}-$n; done"))).ToArray();
        var outcomes = await Task.WhenAll(runs);
        for (var i = 0; i < runs.Length; i++)
        {
            Assert.Equal(string.Concat(Enumerable.Range(1, 5).Select(n => $"{i}-{n}\n")), outcomes[i].Stdout);
        }

        Assert.Empty((await _guest.AskAsync(new Request { ListExecutions = new ListExecutions() })).Executions.Executions);
    }

    [Fact]
    public async Task Too_many_are_refused()
    {
        var started = new List<IGuestExecution>();
        for (var i = 0; i < ProtocolLimits.MaxExecutions; i++)
        {
            started.Add(await _guest.StartExecutionAsync(Starting.Command("sleep", "1000"), CancellationToken.None));
        }

        var e = await Assert.ThrowsAsync<GuestException>(() => _guest.StartExecutionAsync(Starting.Command("true"), CancellationToken.None));
        Assert.Equal(ErrorCode.ResourceExhausted, e.Code);
        Assert.Equal(ProtocolLimits.MaxExecutions, (await _guest.AskAsync(new Request { ListExecutions = new ListExecutions() })).Executions.Executions.Count);
        await Task.WhenAll(started.Select(s => s.SignalAsync(9, CancellationToken.None).AsTask()));
        Assert.All(await Task.WhenAll(started.Select(s => Outcome.OfAsync(s))), o => Assert.Equal(9, o.Exited.Signal));
    }
}
