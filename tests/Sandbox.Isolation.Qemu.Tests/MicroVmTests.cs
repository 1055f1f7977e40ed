using System.Globalization;
using Sandbox.Guest.Protocol;
using Xunit;
using static Sandbox.Isolation.TestSupport.GuestRuns;

namespace Sandbox.Isolation.Qemu.Tests;

/// <summary>What is QEMU's own of a machine; what every backend must do is in tests/Sandbox.Conformance.</summary>
public sealed class MicroVmTests(BackendFixture fixture) : IClassFixture<BackendFixture>
{
    private static CancellationToken Ct => TestContext.Current.CancellationToken;

    [Fact]
    public async Task A_booted_machine_runs_commands_as_its_user_with_its_sizes_name_and_time()
    {
        await using var vm = await fixture.Backend.StartAsync(fixture.Spec(memoryMiB: 384, diskMiB: 256), Ct);

        var told = await ShellAsync(vm, "id -un; hostname; nproc; df -m --output=size / | tail -1; awk '/MemTotal/{print $2}' /proc/meminfo; date +%s; echo oops >&2; exit 3");

        var lines = told.Stdout.Split('\n').Select(l => l.Trim()).ToArray();
        Assert.Equal("user", lines[0]);
        Assert.Equal(vm.Owner.VmId, lines[1]["test-".Length..]);
        Assert.Equal("1", lines[2]);
        Assert.InRange(int.Parse(lines[3], CultureInfo.InvariantCulture), 200, 256);
        Assert.InRange(int.Parse(lines[4], CultureInfo.InvariantCulture), 300_000, 384 * 1024);
        Assert.InRange(long.Parse(lines[5], CultureInfo.InvariantCulture), DateTimeOffset.UtcNow.ToUnixTimeSeconds() - 120, DateTimeOffset.UtcNow.ToUnixTimeSeconds() + 120);
        Assert.Equal("oops\n", told.Stderr);
        Assert.Equal(3, told.Exited.ExitCode);
    }

    [Fact]
    public async Task An_interrupted_loop_leaves_its_context_whole_and_a_stubborn_one_does_not()
    {
        await using var vm = await fixture.Backend.StartAsync(fixture.Spec(memoryMiB: 512), Ct);
        await vm.Guest.RequestAsync(new Request { CreateContext = new CreateContext { ContextId = "c", Language = "python" } }, Ct);
        await CodeAsync(vm, "c", "x = 42");

        var loop = await CodeAsync(vm, "c", "while True: pass", timeoutMs: 2000);
        Assert.True(loop.Exited.TimedOut);
        Assert.False(loop.Exited.ContextLost);
        Assert.Equal("42\n", (await CodeAsync(vm, "c", "print(x)")).Stdout);

        var stubborn = await CodeAsync(vm, "c", "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True: pass", timeoutMs: 2000);
        Assert.True(stubborn.Exited.TimedOut);
        Assert.True(stubborn.Exited.ContextLost);
        Assert.Equal("NameError", (await CodeAsync(vm, "c", "print(x)")).Error!.Name);
    }

    [Fact]
    public async Task Runaways_end_inside_the_guest_and_the_agent_goes_on()
    {
        await using var vm = await fixture.Backend.StartAsync(fixture.Spec(), Ct);

        var memory = await ShellAsync(vm, "exec python3 -c 'b = []\nwhile True: b.append(bytearray(8 << 20))'", timeoutMs: 120_000);
        var forks = await ShellAsync(vm, "bomb() { bomb | bomb & }; bomb; sleep 60", timeoutMs: 30_000);
        var disk = await ShellAsync(vm, "dd if=/dev/zero of=$HOME/fill bs=1M 2>&1; exit 4", timeoutMs: 120_000);
        var after = await ShellAsync(vm, "rm $HOME/fill; echo alive");

        Assert.True(memory.Exited.OutOfMemory, memory.Exited.ToString());
        Assert.True(forks.Exited.PidsLimitHit, forks.Exited.ToString());
        Assert.True(disk.Exited.DiskFull, disk.Stdout);
        Assert.Equal(4, disk.Exited.ExitCode);
        Assert.Equal("alive\n", after.Stdout);
    }

    [Fact]
    public async Task A_guest_that_powers_off_is_reported_as_such()
    {
        await using var vm = await fixture.Backend.StartAsync(fixture.Spec(), Ct);

        _ = vm.Guest.StartExecutionAsync(
            new StartExecution { ExecutionId = "x", User = "root", Command = new Command { Argv = { "/bin/bash", "-c", "echo o > /proc/sysrq-trigger" } } }, Ct);

        var exit = await vm.Exited.WaitAsync(TimeSpan.FromMinutes(1), Ct);
        Assert.False(exit.Expected);
        Assert.Contains("guest", exit.Reason, StringComparison.Ordinal);
    }
}
