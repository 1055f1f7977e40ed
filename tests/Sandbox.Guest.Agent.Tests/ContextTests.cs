using System.Diagnostics;
using Sandbox.Guest.Protocol;
using Sandbox.Isolation.Guest;

namespace Sandbox.Guest.Agent.Tests;

public sealed class ContextTests : IAsyncLifetime
{
    private readonly AgentFixture _agent = new();
    private GuestConnection _guest = null!;

    public async ValueTask InitializeAsync() => _guest = await _agent.ConnectAsync();

    public ValueTask DisposeAsync() => _agent.DisposeAsync();

    [Fact]
    public async Task Python_keeps_state_shows_values_and_streams_in_order()
    {
        await PythonAsync();
        Assert.Single((await _guest.RunCodeAsync("py", "import os, sys\nx = 20")).Events);
        Assert.Equal("42", (await _guest.RunCodeAsync("py", "x * 2 + 2")).MainText);

        var outcome = await _guest.RunCodeAsync("py", "for i in range(20):\n    print('before', i)\n    display(i)\nprint('child'); _ = os.system('echo from child; echo oops >&2')\n!echo magic");
        var order = outcome.Events.Where(e => e.Result is not null || e.Output?.Fd == OutputFd.Stdout).Select(e => e.Result is null ? e.Output.Data.ToStringUtf8() : "=" + e.Result.Data["text/plain"].ToStringUtf8() + "\n");
        Assert.Equal(string.Concat(Enumerable.Range(0, 20).Select(i => $"before {i}\n={i}\n")) + "child\nfrom child\nmagic\n", string.Concat(order).Replace("\r", "", StringComparison.Ordinal));
        Assert.Equal("oops\n", outcome.Stderr);
        Assert.Equal(0, outcome.Exited.ExitCode);
    }

    [Fact]
    public async Task Python_prints_appear_while_the_code_runs()
    {
        await PythonAsync();
        var gate = Path.Combine(_agent.Folder, "gate");
        var execution = await _guest.StartExecutionAsync(Starting.Code("py", $"import os, time\nprint('waiting')\nwhile not os.path.exists('{gate}'): time.sleep(0.01)"), CancellationToken.None);
        var outcome = await Outcome.OfAsync(execution, async (soFar, _) =>
        {
            if (soFar.Stdout == "waiting\n")
            {
                await File.WriteAllTextAsync(gate, "");
            }
        });
        Assert.Equal(0, outcome.Exited.ExitCode);
    }

    [Fact]
    public async Task Python_errors_are_told_without_colours_and_hostile_text_does_no_harm()
    {
        await PythonAsync();
        var outcome = await _guest.RunCodeAsync("py", "def f():\n    raise ValueError('bad \\udcff value')\nf()");
        Assert.Equal(1, outcome.Exited.ExitCode);
        Assert.Equal("ValueError", outcome.Error!.Name);
        Assert.Contains("bad", outcome.Error.Value);
        Assert.Contains("f()", outcome.Error.Traceback);
        Assert.DoesNotContain('\x1b', outcome.Error.Traceback);
        Assert.Equal("SyntaxError", (await _guest.RunCodeAsync("py", "1 +")).Error!.Name);

        outcome = await _guest.RunCodeAsync("py", "display({'no such type': 'x', 'text/x-ok': 'y', 'a\\nb': 'z'}, raw=True)\ndisplay({'image/png': 'x' * 600000, 'text/plain': 'big'}, raw=True)");
        Assert.Equal(["text/x-ok"], outcome.Results.First().Data.Keys);
        Assert.Equal(["text/plain"], outcome.Results.Last().Data.Keys);
        Assert.Contains("image/png", outcome.Stderr);

        // Writing into the kernel's own descriptor breaks that interpreter and nothing else.
        outcome = await _guest.RunCodeAsync("py", "import os\nos.write(4, b'{\"type\": \"result\", \"data\": 5}\\n\\xff\\n{}\\n')\n7");
        Assert.Equal("7", outcome.MainText);
        Assert.Equal("ok", (await _guest.RunCodeAsync("py", "from IPython.display import display; 'ok'")).MainText.Trim('\''));
    }

    [Fact]
    public async Task Python_survives_redirected_descriptors_exit_and_system_exit()
    {
        await PythonAsync();
        var outcome = await _guest.RunCodeAsync("py", "import os, sys\nsaved = os.dup(1)\nnull = os.open('/dev/null', os.O_WRONLY)\nos.dup2(null, 1)\nprint('gone')");
        Assert.Equal(0, outcome.Exited.ExitCode);
        Assert.Equal("back\n", (await _guest.RunCodeAsync("py", "_ = os.dup2(saved, 1)\nprint('back')")).Stdout);
        Assert.Equal(3, (await _guest.RunCodeAsync("py", "sys.exit(3)")).Exited.ExitCode);
        Assert.False((await _guest.RunCodeAsync("py", "exit()")).Exited.ContextLost);
        Assert.True((await _guest.RunCodeAsync("py", "saved > 0")).MainText == "True");

        outcome = await _guest.RunCodeAsync("py", "os._exit(9)");
        Assert.True(outcome.Exited.ContextLost);
        Assert.Equal(9, outcome.Exited.ExitCode);
        Assert.Equal("NameError", (await _guest.RunCodeAsync("py", "saved")).Error!.Name);
    }

    [Theory]
    [InlineData("python", "x = 5", "import time\nprint('go')\nwhile True: time.sleep(0.1)", "print(x)")]
    [InlineData("python", "x = 5", "print('go')\nwhile True: pass", "print(x)")]
    [InlineData("javascript", "const x = 5", "console.log('go'); while (true) {}", "console.log(x)")]
    [InlineData("javascript", "const x = 5", "console.log('go'); await new Promise(() => {})", "console.log(x)")]
    [InlineData("bash", "x=5", "f() { echo go; while :; do sleep 0.1; done; }; f; echo never", "echo $x")]
    [InlineData("bash", "x=5", "echo go; sleep 1000; echo never", "echo $x")]
    public async Task An_interrupt_ends_the_code_and_keeps_the_state(string language, string before, string endless, string after)
    {
        await ContextAsync("c", language);
        await _guest.RunCodeAsync("c", before);
        var execution = await _guest.StartExecutionAsync(Starting.Code("c", endless), CancellationToken.None);
        var outcome = await Outcome.OfAsync(execution, async (_, e) =>
        {
            if (e.Output is not null)
            {
                await execution.SignalAsync(2, CancellationToken.None);
            }
        });
        Assert.NotEqual(0, outcome.Exited.ExitCode);
        Assert.False(outcome.Exited.ContextLost);
        Assert.DoesNotContain("never", outcome.Stdout);
        Assert.Equal("5\n", (await _guest.RunCodeAsync("c", after)).Stdout);
    }

    [Theory]
    [InlineData("python", "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True: pass", "print(1)")]
    [InlineData("bash", "trap '' INT; while :; do :; done", "echo 1")]
    public async Task A_timeout_interrupts_and_then_takes_the_interpreter(string language, string stubborn, string after)
    {
        await ContextAsync("c", language);
        var start = Starting.Code("c", stubborn);
        start.TimeoutMs = 300;
        start.GraceMs = 200;
        var outcome = await _guest.RunAsync(start);
        Assert.True(outcome.Exited.TimedOut);
        Assert.True(outcome.Exited.ContextLost);
        Assert.Equal(9, outcome.Exited.Signal);
        Assert.Equal("1\n", (await _guest.RunCodeAsync("c", after)).Stdout);
    }

    [Fact]
    public async Task A_timeout_that_an_interrupt_satisfies_keeps_the_context()
    {
        await PythonAsync();
        await _guest.RunCodeAsync("py", "x = 1");
        var start = Starting.Code("py", "while True: pass");
        start.TimeoutMs = 300;
        start.GraceMs = 60_000;
        var outcome = await _guest.RunAsync(start);
        Assert.True(outcome.Exited.TimedOut);
        Assert.False(outcome.Exited.ContextLost);
        Assert.Equal("KeyboardInterrupt", outcome.Error!.Name);
        Assert.Equal("1", (await _guest.RunCodeAsync("py", "x")).MainText);
    }

    [Fact]
    public async Task JavaScript_keeps_state_redeclares_awaits_and_loads_modules()
    {
        await ContextAsync("js", "javascript");
        Assert.Equal(0, (await _guest.RunCodeAsync("js", "const x = 20; let y = 2; class K { go() { return x } }")).Exited.ExitCode);
        Assert.Equal("22", (await _guest.RunCodeAsync("js", "x + y")).MainText);
        Assert.Equal("{ x: 7, k: K {} }", (await _guest.RunCodeAsync("js", "const x = 7; ({ x, k: new K() })")).MainText);
        Assert.Equal("9", (await _guest.RunCodeAsync("js", "const z = await new Promise(r => setTimeout(() => r(8), 10)); z + 1")).MainText);
        Assert.Equal("[ true, true, 8 ]", (await _guest.RunCodeAsync("js", "const os = require('os'); const p = await import('path'); [Buffer.from('a') instanceof Uint8Array, p.sep === '/', z]")).MainText);
        var outcome = await _guest.RunCodeAsync("js", "console.log('out'); console.error('err'); function f() { const inner = 1; throw new TypeError('bad') } f()");
        Assert.Equal("out\n", outcome.Stdout);
        Assert.Equal("err\n", outcome.Stderr);
        Assert.Equal("TypeError", outcome.Error!.Name);
        Assert.Equal("bad", outcome.Error.Value);
        Assert.Equal(1, outcome.Exited.ExitCode);
        Assert.Equal("SyntaxError", (await _guest.RunCodeAsync("js", "let let = ")).Error!.Name);
        Assert.Equal("<b>", (await _guest.RunCodeAsync("js", "display({ 'text/html': '<b>' }); undefined")).Results.Single().Data["text/html"].ToStringUtf8());
        outcome = await _guest.RunCodeAsync("js", "process.exit(4)");
        Assert.Equal(4, outcome.Exited.ExitCode);
        Assert.True(outcome.Exited.ContextLost);
    }

    [Fact]
    public async Task Bash_keeps_directory_variables_and_functions()
    {
        await ContextAsync("sh", "bash");
        await _guest.RunCodeAsync("sh", "cd /usr; x='a b'\nf() {\n  echo \"f: $x it's\"\n}");
        var outcome = await _guest.RunCodeAsync("sh", "pwd; f; echo err >&2; ls -1 /proc/self/fd | wc -l; false");
        Assert.Equal("/usr\nf: a b it's\n4\n", outcome.Stdout);
        Assert.Equal("err\n", outcome.Stderr);
        Assert.Equal(1, outcome.Exited.ExitCode);
        Assert.Equal(2, (await _guest.RunCodeAsync("sh", "if")).Exited.ExitCode);
        await _guest.RunCodeAsync("sh", "exec 3>&1 1>/dev/null");
        Assert.Equal("back\n", (await _guest.RunCodeAsync("sh", "exec 1>&3; echo back")).Stdout);
        var start = Starting.Code("sh", "echo $K; pwd");
        start.Env["K"] = "it's \\ a\nvalue";
        start.Cwd = "/etc";
        Assert.Equal("it's \\ a value\n/etc\n", (await _guest.RunAsync(start)).Stdout);
        outcome = await _guest.RunCodeAsync("sh", "exit 6");
        Assert.Equal(6, outcome.Exited.ExitCode);
        Assert.True(outcome.Exited.ContextLost);
        Assert.Equal("\n", (await _guest.RunCodeAsync("sh", "echo $x")).Stdout);
    }

    [Fact]
    public async Task Contexts_are_listed_restarted_removed_and_run_apart()
    {
        await ContextAsync("a", "bash");
        await ContextAsync("b", "bash");
        var exists = await Assert.ThrowsAsync<GuestException>(() => _guest.CreateContextAsync("a", "bash"));
        Assert.Equal(ErrorCode.AlreadyExists, exists.Code);
        var unknown = await Assert.ThrowsAsync<GuestException>(() => _guest.CreateContextAsync("z", "cobol"));
        Assert.Equal(ErrorCode.InvalidArgument, unknown.Code);

        var gate = Path.Combine(_agent.Folder, "gate");
        var first = await _guest.StartExecutionAsync(Starting.Code("a", $"echo 1; while [ ! -e {gate} ]; do sleep 0.02; done; x=set"), CancellationToken.None);
        var second = await _guest.StartExecutionAsync(Starting.Code("a", "echo 2 $x"), CancellationToken.None);
        var cancelled = await _guest.StartExecutionAsync(Starting.Code("a", "echo never"), CancellationToken.None);
        await cancelled.SignalAsync(15, CancellationToken.None);
        await _guest.RunCodeAsync("b", $"touch {gate}");
        Assert.Equal("1\n", (await Outcome.OfAsync(first)).Stdout);
        Assert.Equal("2 set\n", (await Outcome.OfAsync(second)).Stdout);
        Assert.Equal(15, (await Outcome.OfAsync(cancelled)).Exited.Signal);

        await _guest.AskAsync(new Request { RestartContext = new RestartContext { ContextId = "a" } });
        Assert.Equal("\n", (await _guest.RunCodeAsync("a", "echo $x")).Stdout);
        await _guest.AskAsync(new Request { RemoveContext = new RemoveContext { ContextId = "a" } });
        var list = (await _guest.AskAsync(new Request { ListContexts = new ListContexts() })).Contexts.Contexts;
        Assert.Equal("b", Assert.Single(list).ContextId);
        Assert.Equal(ErrorCode.NotFound, (await Assert.ThrowsAsync<GuestException>(() => _guest.RunCodeAsync("a", "echo"))).Code);
    }

    [Theory]
    [InlineData("python", "import random, tempfile; print(random.random(), next(tempfile._get_candidate_names()))")]
    [InlineData("javascript", "console.log(Math.random())")]
    [InlineData("bash", "echo $RANDOM$RANDOM$RANDOM")]
    public async Task Reseeding_reaches_the_interpreters(string language, string draw)
    {
        await ContextAsync("c", language);
        await ReseedAsync(1);
        var first = (await _guest.RunCodeAsync("c", draw)).Stdout;
        await ReseedAsync(2);
        var second = (await _guest.RunCodeAsync("c", draw)).Stdout;
        await ReseedAsync(1);
        var third = (await _guest.RunCodeAsync("c", draw)).Stdout;
        Assert.NotEqual(first, second);
        Assert.Equal(first.Split(' ')[0], third.Split(' ')[0]);
    }

    [Fact]
    public async Task A_reseed_may_leave_the_interpreters_as_they_are()
    {
        const string Draw = "echo $RANDOM$RANDOM$RANDOM";
        await ContextAsync("c", "bash");
        await ReseedAsync(1);
        var first = (await _guest.RunCodeAsync("c", Draw)).Stdout;
        await ReseedAsync(1);
        await ReseedAsync(2, keepInterpreters: true);
        Assert.Equal(first, (await _guest.RunCodeAsync("c", Draw)).Stdout);
    }

    private Task ReseedAsync(byte fill, bool keepInterpreters = false) =>
        _guest.AskAsync(new Request
        {
            Reseed = new Reseed { Entropy = Google.Protobuf.ByteString.CopyFrom(Enumerable.Repeat(fill, 32).ToArray()), UnixNanos = 1, KeepInterpreters = keepInterpreters },
        });

    private Task PythonAsync() => ContextAsync("py", "python");

    private async Task ContextAsync(string id, string language)
    {
        Skip(language);
        await _guest.CreateContextAsync(id, language);
    }

    /// <summary>The end-to-end tests have these in the guest image; here the host must.</summary>
    private static void Skip(string language)
    {
        var (program, argument, what) = language switch
        {
            "python" => ("python3", "import IPython", "python3 with IPython"),
            "javascript" => ("node", "", "node"),
            _ => ("bash", "true", "bash"),
        };
        try
        {
            // With the path and the rights the agent's user has.
            using var process = Process.Start(new ProcessStartInfo("/usr/bin/env")
            {
                ArgumentList = { "-i", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", program, language == "javascript" ? "-e" : "-c", argument },
                RedirectStandardError = true,
            })!;
            process.WaitForExit();
            Assert.SkipUnless(process.ExitCode == 0, $"This machine has no {what}.");
        }
        catch (System.ComponentModel.Win32Exception)
        {
            Assert.Skip($"This machine has no {what}.");
        }
    }
}
