using Sandbox.Guest.Protocol;
using Sandbox.Isolation.Guest;
using Sandbox.Isolation.TestSupport;
using Sandbox.Isolation.Wasm.Tests.Support;
using Xunit;
using static Sandbox.Isolation.TestSupport.GuestRuns;
using static Sandbox.Isolation.Wasm.Tests.Support.WasmFixture;

namespace Sandbox.Isolation.Wasm.Tests;

public sealed class ContextTests(WasmFixture host)
{
    [Theory]
    [InlineData("javascript", "let x = 20; console.log('said', [1, 'a', {b: 2}]); x + 1", "said [ 1, 'a', { b: 2 } ]\n", "21")]
    [InlineData("python", "x = 20\nprint('said', [1, 'a', {'b': 2}])\nx + 1", "said [1, 'a', {'b': 2}]\n", "21")]
    public async Task Code_says_and_returns(string language, string code, string said, string result)
    {
        await using var vm = await host.StartAsync();
        var context = await ContextAsync(vm, language);

        var ran = await CodeAsync(vm, context, code);

        Assert.Equal((0, said, "", false), (ran.Exited.ExitCode, ran.Stdout, ran.Stderr, ran.Exited.ContextLost));
        Assert.Equal(result, ran.Results.Single().Data["text/plain"].ToStringUtf8());
        Assert.True(ran.Results[0].IsMain);
    }

    [Theory]
    [InlineData("javascript", "const a = {n: 1}, c = a; function f() { return ++c.n } class K {}", "const a = f; let K = 3; a() + K", "5")]
    [InlineData("python", "a = {'n': 1}\ndef f():\n    a['n'] += 1\n    return a['n']", "f() + 3", "5")]
    public async Task Variables_live_between_pieces_of_code_and_may_be_declared_again(string language, string first, string second, string result)
    {
        await using var vm = await host.StartAsync();
        var context = await ContextAsync(vm, language);
        await CodeAsync(vm, context, first);

        var ran = await CodeAsync(vm, context, second);

        Assert.Null(ran.Error);
        Assert.Equal(result, ran.Results.Single().Data["text/plain"].ToStringUtf8());
    }

    [Theory]
    [InlineData("javascript", "function f() { null.x }\nf()", "TypeError", "f")]
    [InlineData("javascript", "let = = 3", "SyntaxError", "")]
    [InlineData("python", "def f():\n    return 1 / 0\nf()", "ZeroDivisionError", "return 1 / 0")]
    [InlineData("python", "x = = 3", "SyntaxError", "")]
    public async Task Errors_have_a_name_a_message_and_a_traceback(string language, string code, string name, string trace)
    {
        await using var vm = await host.StartAsync();
        var context = await ContextAsync(vm, language);

        var ran = await CodeAsync(vm, context, code);

        Assert.Equal((1, name), (ran.Exited.ExitCode, ran.Error?.Name));
        Assert.NotEqual("", ran.Error!.Value);
        Assert.Contains(trace, ran.Error.Traceback, StringComparison.Ordinal);
        Assert.DoesNotContain("driver.py", ran.Error.Traceback, StringComparison.Ordinal);
        Assert.False(ran.Exited.ContextLost);
    }

    [Fact]
    public async Task Two_contexts_and_two_machines_do_not_see_each_other()
    {
        await using var one = await host.StartAsync();
        await using var other = await host.StartAsync();
        await ContextAsync(one, "python", "a");
        await ContextAsync(one, "python", "b");
        await ContextAsync(other, "python", "a");
        await CodeAsync(one, "a", "secret = 1\nopen('/home/user/secret', 'w').write('x')\nimport os\nos.environ['SECRET'] = '1'");

        var sameMachine = await CodeAsync(one, "b", "import os\nprint('secret' in globals(), os.path.exists('/home/user/secret'), 'SECRET' in os.environ)");
        var otherMachine = await CodeAsync(other, "a", "import os\nprint('secret' in globals(), os.path.exists('/home/user/secret'), 'SECRET' in os.environ)");

        Assert.Equal("False True False\n", sameMachine.Stdout);
        Assert.Equal("False False False\n", otherMachine.Stdout);
    }

    [Fact]
    public async Task Awaits_and_timers_work_at_the_top_of_code()
    {
        await using var vm = await host.StartAsync();
        var context = await ContextAsync(vm, "javascript");

        var ran = await CodeAsync(vm, context, "const waited = await new Promise(r => setTimeout(() => r('done'), 30)); waited");
        var never = await CodeAsync(vm, context, "await new Promise(() => {})");

        Assert.Equal("'done'", ran.Results.Single().Data["text/plain"].ToStringUtf8());
        Assert.Contains("nothing will ever settle", never.Error!.Value, StringComparison.Ordinal);
    }

    [Fact]
    public async Task JavaScript_is_interrupted_and_keeps_its_variables()
    {
        await using var vm = await host.StartAsync();
        var context = await ContextAsync(vm, "javascript");
        await CodeAsync(vm, context, "var kept = 7");

        var ran = await CodeAsync(vm, context, "for (;;) {}", timeoutMs: 200);
        var sleeping = await CodeAsync(vm, context, "await new Promise(r => setTimeout(r, 60000))", timeoutMs: 200);
        var after = await CodeAsync(vm, context, "kept");

        Assert.Equal((130, true, false), (ran.Exited.ExitCode, ran.Exited.TimedOut, ran.Exited.ContextLost));
        Assert.Equal("InterruptError", ran.Error!.Name);
        Assert.True(sleeping.Exited.TimedOut);
        Assert.InRange(sleeping.Exited.WallMs, 150UL, 5000UL);
        Assert.Equal("7", after.Results.Single().Data["text/plain"].ToStringUtf8());
    }

    [Theory]
    [InlineData("while True: pass")]
    [InlineData("import time\ntime.sleep(600)")]
    public async Task Python_is_ended_by_an_interrupt_and_begins_anew(string code)
    {
        await using var vm = await host.StartAsync();
        var context = await ContextAsync(vm, "python");
        await CodeAsync(vm, context, "kept = 7");

        var ran = await CodeAsync(vm, context, code, timeoutMs: 300);
        var after = await CodeAsync(vm, context, "'kept' in globals()");

        Assert.Equal((130, true, true), (ran.Exited.ExitCode, ran.Exited.TimedOut, ran.Exited.ContextLost));
        Assert.InRange(ran.Exited.WallMs, 200UL, 5000UL);
        Assert.Contains("variables are gone", ran.Stderr, StringComparison.Ordinal);
        Assert.Equal("False", after.Results.Single().Data["text/plain"].ToStringUtf8());
    }

    [Theory]
    [InlineData("javascript", "process.exit(3)", 3, true)]
    [InlineData("python", "import os\nos._exit(3)", 3, true)]
    [InlineData("python", "import sys\nsys.exit(3)", 3, false)]
    public async Task An_exit_ends_what_it_ends(string language, string code, int exitCode, bool lost)
    {
        await using var vm = await host.StartAsync();
        var context = await ContextAsync(vm, language);

        var ran = await CodeAsync(vm, context, code);

        Assert.Equal((exitCode, lost), (ran.Exited.ExitCode, ran.Exited.ContextLost));
        Assert.Equal(0, (await CodeAsync(vm, context, "1")).Exited.ExitCode);
    }

    [Fact]
    public async Task Each_interpreter_has_randomness_of_its_own()
    {
        await using var vm = await host.StartAsync();
        var seen = new HashSet<string>();
        foreach (var (language, code) in ((string, string)[])[("python", "import random\n(random.random(), hash('x'))"), ("javascript", "[Math.random(), crypto.randomUUID()]")])
        {
            for (var i = 0; i < 3; i++)
            {
                var ran = await CodeAsync(vm, await ContextAsync(vm, language, $"{language}{i}"), code);
                Assert.True(seen.Add(ran.Results.Single().Data["text/plain"].ToStringUtf8()));
            }
        }
    }

    [Theory]
    [InlineData("javascript", "process.env.ONLY + process.cwd()", "process.env.ONLY === undefined && process.cwd() === '/tmp'", "'here/tmp'", "true")]
    [InlineData("python", "import os\nos.environ['ONLY'] + os.getcwd()", "'ONLY' not in os.environ and os.getcwd() == '/tmp'", "'here/tmp'", "True")]
    public async Task Variables_hold_for_one_piece_of_code_and_a_directory_stays(string language, string code, string after, string first, string second)
    {
        await using var vm = await host.StartAsync();
        await ContextAsync(vm, language);

        var ran = await GuestRuns.RunAsync(vm, new StartExecution { Code = new Code { ContextId = "c", Source = code }, Cwd = "/tmp", Env = { ["ONLY"] = "here" } }, Token);
        var then = await CodeAsync(vm, "c", after);

        Assert.Equal(first, ran.Results.Single().Data["text/plain"].ToStringUtf8());
        Assert.Equal(second, then.Results.Single().Data["text/plain"].ToStringUtf8());
    }

    [Fact]
    public async Task A_value_is_shown_as_what_it_says_it_is()
    {
        await using var vm = await host.StartAsync();
        await ContextAsync(vm, "python");

        var ran = await CodeAsync(vm, "c", "class T:\n    def _repr_html_(self): return '<b>t</b>'\ndisplay(T())\nT()");

        Assert.Equal((2, "<b>t</b>"), (ran.Results.Count, ran.Results[1].Data["text/html"].ToStringUtf8()));
        Assert.Equal((false, true), (ran.Results[0].IsMain, ran.Results[1].IsMain));
    }

    [Fact]
    public async Task Restart_remove_and_list()
    {
        await using var vm = await host.StartAsync();
        await ContextAsync(vm, "javascript", "a");
        await CodeAsync(vm, "a", "var x = 1");
        await vm.Guest.RequestAsync(new Request { RestartContext = new RestartContext { ContextId = "a" } }, Token);

        var ran = await CodeAsync(vm, "a", "typeof x");
        var list = (await vm.Guest.RequestAsync(new Request { ListContexts = new ListContexts() }, Token)).Contexts;
        await vm.Guest.RequestAsync(new Request { RemoveContext = new RemoveContext { ContextId = "a" } }, Token);
        var gone = await Assert.ThrowsAsync<GuestException>(() => CodeAsync(vm, "a", "1"));

        Assert.Equal("'undefined'", ran.Results.Single().Data["text/plain"].ToStringUtf8());
        Assert.Equal("a", list.Contexts.Single().ContextId);
        Assert.Equal(ErrorCode.NotFound, gone.Code);
    }

    [Fact]
    public async Task A_language_that_is_not_there_and_a_user_that_is_not_there_are_refused()
    {
        await using var vm = await host.StartAsync();

        var bash = await Assert.ThrowsAsync<GuestException>(() => ContextAsync(vm, "bash"));
        var root = await Assert.ThrowsAsync<GuestException>(() => vm.Guest.RequestAsync(new Request { CreateContext = new CreateContext { ContextId = "r", Language = "python", User = "root" } }, Token));

        Assert.Contains("javascript and python", bash.Message, StringComparison.Ordinal);
        Assert.Contains("no user 'root'", root.Message, StringComparison.Ordinal);
    }
}
