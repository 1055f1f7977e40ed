using System.Diagnostics;
using System.Globalization;
using Microsoft.Extensions.Logging.Abstractions;
using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Wasm.Tests.Support;
using Xunit;
using static Sandbox.Isolation.TestSupport.GuestRuns;
using static Sandbox.Isolation.Wasm.Tests.Support.WasmFixture;

namespace Sandbox.Isolation.Wasm.Tests;

/// <summary>The figures of docs/wasm.md. Only with SANDBOX_WASM_MEASURE set: they say something on a machine that does nothing else.</summary>
public sealed class MeasureTests(WasmFixture host)
{
    [Fact]
    public async Task Cold_warm_and_idle()
    {
        Assert.SkipUnless(Environment.GetEnvironmentVariable("SANDBOX_WASM_MEASURE") is { Length: > 0 }, "Set SANDBOX_WASM_MEASURE to measure.");
        var options = host.NewOptions();
        var say = new List<string>();
        await using (var backend = new WasmBackend(options, NullLogger<WasmBackend>.Instance))
        {
            await backend.ProbeAsync(Token);
            var clock = Stopwatch.StartNew();
            await using var first = await backend.StartAsync(host.Spec(), Token);
            Say("cold: worker and machine", clock);
            clock.Restart();
            await ContextAsync(first, "javascript", "j");
            await CodeAsync(first, "j", "1 + 1");
            Say("first JavaScript context and result of a worker", clock);
            clock.Restart();
            await ContextAsync(first, "python", "p");
            await CodeAsync(first, "p", "1 + 1");
            Say("first Python context and result of a worker", clock);
            await Task.Delay(2000, Token);
            await WriteAsync(first, "exit.wasm", Modules.Exit(0));
            clock.Restart();
            await RunAsync(first, "exit.wasm");
            Say("a module for the first time (compiled)", clock);
            for (var round = 0; round < 20; round++)
            {
                // The runtime compiles what is used often once more.
                await using var vm = await backend.StartAsync(host.Spec(), Token);
                await ContextAsync(vm, "javascript");
                await CodeAsync(vm, "c", "1 + 1");
                await RunAsync(first, "exit.wasm");
            }

            await MedianAsync("warm: machine", 50, async () => await (await backend.StartAsync(host.Spec(), Token)).DisposeAsync(), includesEnd: true);
            await StartMedianAsync(backend, "warm: machine, start alone", _ => Task.CompletedTask);
            await StartMedianAsync(backend, "warm: machine, JavaScript context, first result", async vm => await CodeAsync(vm, await ContextAsync(vm, "javascript"), "1 + 1"));
            await StartMedianAsync(backend, "warm: machine, Python context (waiting), first result", async vm => await CodeAsync(vm, await ContextAsync(vm, "python"), "1 + 1"), pause: 400);
            await MedianAsync("JavaScript context", 30, async () => await ContextAsync(first, "javascript", Guid.NewGuid().ToString("N")), most: 25);
            await MedianAsync("code in a JavaScript context", 100, async () => await CodeAsync(first, "j", "1 + 1"));
            await MedianAsync("code in a Python context", 100, async () => await CodeAsync(first, "p", "1 + 1"));
            await MedianAsync("a module again", 50, async () => await RunAsync(first, "exit.wasm"));
            await MedianAsync("js -e", 30, async () => await RunAsync(first, "js", "-e", "1"));
            await MedianAsync("python3 -c", 15, async () => await RunAsync(first, "python3", "-c", "pass"));
            await MemoryAsync(backend, "an idle machine", 40, _ => Task.CompletedTask);
            await MemoryAsync(backend, "an idle machine with a JavaScript context", 20, vm => ContextAsync(vm, "javascript"));
            await MemoryAsync(backend, "an idle machine with a Python context", 10, vm => ContextAsync(vm, "python"));
            say.Add($"worker in all: {Resident(backend) >> 20} MiB resident");
        }

        TestContext.Current.TestOutputHelper!.WriteLine(string.Join('\n', say));
        Console.WriteLine(string.Join('\n', say));
        Directory.Delete(Runtime(options), recursive: true);

        void Say(string what, Stopwatch clock) => say.Add(string.Create(CultureInfo.InvariantCulture, $"{what}: {clock.Elapsed.TotalMilliseconds:0.00} ms"));

        async Task MedianAsync(string what, int rounds, Func<Task> work, bool includesEnd = false, int most = int.MaxValue)
        {
            var times = new List<double>();
            for (var i = 0; i < Math.Min(rounds, most); i++)
            {
                var clock = Stopwatch.StartNew();
                await work();
                times.Add(clock.Elapsed.TotalMilliseconds);
            }

            Tell(what + (includesEnd ? ", start and end" : ""), times);
        }

        async Task StartMedianAsync(WasmBackend backend, string what, Func<IMicroVm, Task> work, int pause = 0)
        {
            var times = new List<double>();
            for (var i = 0; i < 30; i++)
            {
                await Task.Delay(pause, Token);
                var clock = Stopwatch.StartNew();
                await using var vm = await backend.StartAsync(host.Spec(), Token);
                await work(vm);
                times.Add(clock.Elapsed.TotalMilliseconds);
            }

            Tell(what, times);
        }

        async Task MemoryAsync(WasmBackend backend, string what, int count, Func<IMicroVm, Task> work)
        {
            await Task.Delay(1000, Token);
            var before = Resident(backend);
            var machines = new List<IMicroVm>();
            for (var i = 0; i < count; i++)
            {
                machines.Add(await backend.StartAsync(host.Spec(), Token));
                await work(machines[^1]);
            }

            await Task.Delay(1000, Token);
            say.Add($"{what}: {(Resident(backend) - before) / count / 1024} KiB");
            foreach (var vm in machines)
            {
                await vm.DisposeAsync();
            }
        }

        void Tell(string what, List<double> times)
        {
            times.Sort();
            say.Add(string.Create(CultureInfo.InvariantCulture, $"{what}: median {times[times.Count / 2]:0.00} ms, p95 {times[(int)(times.Count * 0.95)]:0.00} ms"));
        }
    }

    private static long Resident(WasmBackend backend)
    {
        var pid = backend.WorkerProcessId!.Value;
        while (File.ReadAllText($"/proc/{pid}/task/{pid}/children").Split(' ', StringSplitOptions.RemoveEmptyEntries) is [var child, ..])
        {
            pid = int.Parse(child, CultureInfo.InvariantCulture);
        }

        var line = File.ReadLines($"/proc/{pid}/status").First(l => l.StartsWith("RssAnon:", StringComparison.Ordinal));
        return long.Parse(line.Split(' ', StringSplitOptions.RemoveEmptyEntries)[^2].Trim(), CultureInfo.InvariantCulture) * 1024;
    }
}
