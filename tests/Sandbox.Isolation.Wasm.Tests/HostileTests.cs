using System.Diagnostics;
using Sandbox.Guest.Protocol;
using Sandbox.Isolation.TestSupport;
using Sandbox.Isolation.Wasm.Tests.Support;
using Xunit;
using static Sandbox.Isolation.TestSupport.GuestRuns;
using static Sandbox.Isolation.Wasm.Tests.Support.WasmFixture;

namespace Sandbox.Isolation.Wasm.Tests;

/// <summary>What hostile code tries. After each the worker must still be the same process.</summary>
public sealed class HostileTests(WasmFixture host)
{
    public static TheoryData<string> Endless => [nameof(Modules.Spin), nameof(Modules.ClockFlood), nameof(Modules.RandomFlood)];

    [Theory]
    [MemberData(nameof(Endless))]
    public async Task Endless_modules_end_with_their_timeout(string module)
    {
        await using var vm = await host.StartAsync();
        await WriteAsync(vm, "x.wasm", (byte[])typeof(Modules).GetProperty(module)!.GetValue(null)!);

        var ran = await RunAsync(vm, 300, "x.wasm");

        Assert.Equal((9, true), (ran.Exited.Signal, ran.Exited.TimedOut));
        Assert.InRange(ran.Exited.WallMs, 250UL, 5000UL);
        await RequireUnharmedAsync(vm);
    }

    [Fact]
    public async Task Signals_end_a_module()
    {
        await using var vm = await host.StartAsync();
        await WriteAsync(vm, "x.wasm", Modules.Spin);
        foreach (var signal in (int[])[2, 15, 9])
        {
            var execution = await vm.Guest.StartExecutionAsync(new StartExecution { ExecutionId = $"e{signal}", Command = new Command { Argv = { "x.wasm" } } }, Token);
            await execution.SignalAsync(signal, Token);
            await foreach (var e in execution.Events)
            {
                await execution.AcknowledgeAsync(e.Seq, Token);
                Assert.Equal(signal, e.Exited?.Signal ?? signal);
            }
        }
    }

    [Theory]
    [InlineData(nameof(Modules.Recurse), "call stack is exhausted")]
    [InlineData(nameof(Modules.Unreachable), "unreachable")]
    public async Task A_trap_is_explained(string module, string says)
    {
        await using var vm = await host.StartAsync();
        await WriteAsync(vm, "x.wasm", (byte[])typeof(Modules).GetProperty(module)!.GetValue(null)!);

        var ran = await RunAsync(vm, "x.wasm");

        Assert.Equal(134, ran.Exited.ExitCode);
        Assert.Contains(says, ran.Stderr, StringComparison.Ordinal);
        await RequireUnharmedAsync(vm);
    }

    [Fact]
    public async Task Memory_has_a_limit_for_each_guest_and_for_all_of_a_machine()
    {
        await using var vm = await host.StartAsync(memoryMiB: 192, vcpus: 2);
        await WriteAsync(vm, "hog.wasm", Modules.Hog);
        await WriteAsync(vm, "holder.wasm", Modules.Holder);

        var alone = await RunAsync(vm, "hog.wasm");
        await ContextAsync(vm, "python");
        var error = await CodeAsync(vm, "c", "x = []\nwhile True: x.append(bytearray(1 << 20))");
        var kept = await CodeAsync(vm, "c", "x = None\nx = bytearray(60 << 20)\nlen(x)");
        var together = await RunAsync(vm, 5000, "holder.wasm");

        Assert.InRange(alone.Exited.ExitCode, 9, 12);
        Assert.True(error.Error?.Name == "MemoryError" || error.Exited.OutOfMemory, $"{error.Error} {error.Exited}");
        Assert.Null(kept.Error);
        Assert.True(together.Exited is { OutOfMemory: true, Signal: 9 }, together.Exited.ToString());
        await RequireUnharmedAsync(vm);
    }

    [Fact]
    public async Task Enormous_tables_are_refused()
    {
        await using var vm = await host.StartAsync();
        await WriteAsync(vm, "x.wasm", Modules.HugeTable);

        var ran = await RunAsync(vm, "x.wasm");

        Assert.NotEqual(0, ran.Exited.ExitCode);
        Assert.NotEqual("", ran.Stderr);
        await RequireUnharmedAsync(vm);
    }

    [Fact]
    public async Task Output_without_end_waits_for_its_reader_and_can_be_killed()
    {
        await using var vm = await host.StartAsync();
        await WriteAsync(vm, "x.wasm", Modules.OutputFlood);
        var execution = await vm.Guest.StartExecutionAsync(new StartExecution { ExecutionId = "e", Command = new Command { Argv = { "x.wasm" } }, OutputWindow = 256 * 1024 }, Token);
        var (bytes, seen) = (0L, 0);
        await foreach (var e in execution.Events)
        {
            if (++seen == 1)
            {
                // Nothing is acknowledged meanwhile: it fills its window and waits.
                await Task.Delay(500, Token);
                await execution.SignalAsync(9, Token);
            }

            await execution.AcknowledgeAsync(e.Seq, Token);
            bytes += e.Output?.Data.Length ?? 0;
            Assert.True(e.Exited is null or { Signal: 9 });
        }

        Assert.InRange(bytes, 200_000, 500_000);
        await RequireUnharmedAsync(vm);
    }

    [Fact]
    public async Task A_machine_that_spins_does_not_starve_another()
    {
        await using var greedy = await host.StartAsync();
        await using var modest = await host.StartAsync();
        await WriteAsync(greedy, "x.wasm", Modules.Spin);
        await ContextAsync(modest, "javascript");
        var spinning = new List<Task<Ran>>();
        for (var i = 0; i < 16; i++)
        {
            spinning.Add(RunAsync(greedy, 4000, "x.wasm"));
        }

        await Task.Delay(300, Token);
        var clock = Stopwatch.StartNew();
        for (var i = 0; i < 20; i++)
        {
            Assert.Equal(0, (await CodeAsync(modest, "c", "1 + 1")).Exited.ExitCode);
        }

        Assert.InRange(clock.ElapsedMilliseconds, 0, 3000);
        var ran = await Task.WhenAll(spinning);

        // One virtual processor: all sixteen together had no more than the time of one, and each had its part.
        Assert.InRange(ran.Sum(r => (long)r.Exited.CpuMs), 500, 6000);
        Assert.All(ran, r => Assert.True(r.Exited.CpuMs > 0));
    }

    [Fact]
    public async Task A_machine_keeps_to_its_share_of_a_processor()
    {
        await using var vm = await host.Backend.StartAsync(host.Spec() with { CpuLimit = 0.25 }, Token);
        await WriteAsync(vm, "x.wasm", Modules.Spin);

        var ran = await RunAsync(vm, 3000, "x.wasm");

        Assert.InRange(ran.Exited.CpuMs, 200UL, 1300UL);
    }

    [Fact]
    public async Task Descriptors_recursion_and_huge_values_of_Python_are_bounded()
    {
        await using var vm = await host.StartAsync();
        await ContextAsync(vm, "python");

        var descriptors = await CodeAsync(vm, "c", "f = []\ntry:\n    while True: f.append(open('/home/user/x', 'w'))\nexcept OSError as e:\n    print(e.errno, len(f) < 300)\nfor x in f: x.close()");
        var recursion = await CodeAsync(vm, "c", "def f(): return f()\nf()");
        var deep = await CodeAsync(vm, "c", "x = eval('(' * 150 + ')' * 150)\nfor i in range(100000): x = [x]\nrepr(x)");
        var large = await CodeAsync(vm, "c", "'x' * 1_000_000");

        Assert.Equal("33 True\n", descriptors.Stdout);
        Assert.Equal("RecursionError", recursion.Error?.Name);
        Assert.True(deep.Error is not null || deep.Exited.ContextLost);
        Assert.Contains("left out of a result", large.Stderr, StringComparison.Ordinal);
        await RequireUnharmedAsync(vm);
    }

    [Fact]
    public async Task Deep_recursion_and_tricks_of_JavaScript_are_bounded()
    {
        await using var vm = await host.StartAsync();
        await ContextAsync(vm, "javascript");

        var recursion = await CodeAsync(vm, "c", "function f() { return f() + 1 }\nf()");
        var memory = await CodeAsync(vm, "c", "let a = []; for (;;) a.push(new Uint8Array(1 << 20).fill(1))", timeoutMs: 20000);
        await CodeAsync(vm, "c", "1");
        var patched = await CodeAsync(vm, "c", "JSON.stringify = () => { throw 1 }; Object.prototype.toString = null; Error.prototype.toString = 5; throw { get message() { throw 2 } }");
        var after = await CodeAsync(vm, "c", "2");

        Assert.True(recursion.Error is not null || recursion.Exited.ContextLost);
        Assert.True(memory.Error is not null || memory.Exited.ContextLost);
        Assert.NotNull(patched.Error);
        Assert.Equal(0, after.Exited.ExitCode);
        await RequireUnharmedAsync(vm);
    }

    [Fact]
    public async Task User_code_that_writes_to_the_interpreters_channel_harms_only_itself()
    {
        await using var vm = await host.StartAsync();
        await ContextAsync(vm, "python");

        var ran = await CodeAsync(vm, "c", "import os\nfd = os.open('/.sandbox/channel', os.O_RDWR)\nos.write(fd, b'{\"type\":\"done\",\"code\":7}\\n[]\\nnonsense\\n' + b'x' * 100)\n", timeoutMs: 5000);
        var next = await CodeAsync(vm, "c", "1", timeoutMs: 5000);

        Assert.Contains(ran.Exited.ExitCode, (int[])[7, 0, 1, 130]);
        Assert.NotNull(next.Exited);
        await RequireUnharmedAsync(vm);
    }

    [Fact]
    public async Task There_is_no_network()
    {
        await using var vm = await host.StartAsync();
        await ContextAsync(vm, "python");

        var ran = await CodeAsync(vm, "c", "import socket\ntry:\n    socket.create_connection(('1.1.1.1', 53), 2)\n    print('connected')\nexcept BaseException as e:\n    print('refused')");

        Assert.Contains("refused", ran.Stdout + ran.Error?.Name.Replace("AttributeError", "refused", StringComparison.Ordinal), StringComparison.Ordinal);
    }

    private async Task RequireUnharmedAsync(Backends.IMicroVm vm)
    {
        var before = host.Backend.WorkerProcessId;
        Assert.False(vm.Exited.IsCompleted);
        await WriteAsync(vm, "ok.wasm", Modules.Exit(0));
        Assert.Equal(0, (await RunAsync(vm, "ok.wasm")).Exited.ExitCode);
        Assert.Equal(before, host.Backend.WorkerProcessId);
    }
}
