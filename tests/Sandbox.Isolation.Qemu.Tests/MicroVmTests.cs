using System.Globalization;
using Sandbox.Guest.Protocol;
using Sandbox.Isolation.Backends;
using Xunit;
using static Sandbox.Isolation.TestSupport.GuestRuns;

namespace Sandbox.Isolation.Qemu.Tests;

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
    public async Task Contexts_keep_their_variables_and_show_results_and_errors()
    {
        await using var vm = await fixture.Backend.StartAsync(fixture.Spec(memoryMiB: 512), Ct);
        foreach (var language in (string[])["python", "javascript", "bash"])
        {
            await vm.Guest.RequestAsync(new Request { CreateContext = new CreateContext { ContextId = language, Language = language } }, Ct);
        }

        await CodeAsync(vm, "python", "x = 20");
        var python = await CodeAsync(vm, "python", "print('hello'); x + 22");
        Assert.Equal("hello\n", python.Stdout);
        Assert.Equal("42", python.Results.Single().Data["text/plain"].ToStringUtf8());
        var error = await CodeAsync(vm, "python", "1 / 0");
        Assert.Equal("ZeroDivisionError", error.Error!.Name);
        Assert.Equal(1, error.Exited.ExitCode);
        var figure = await CodeAsync(vm, "python", "import matplotlib.pyplot as plt; plt.plot([1, 2]); None");
        Assert.Contains(figure.Results, r => r.Data.TryGetValue("image/png", out var png) && png.Length > 1000);

        await CodeAsync(vm, "javascript", "const x = 20; let f = async () => 22");
        var javascript = await CodeAsync(vm, "javascript", "console.log('hello'); x + await f()");
        Assert.Equal("hello\n", javascript.Stdout);
        Assert.Equal("42", javascript.Results.Single().Data["text/plain"].ToStringUtf8());
        Assert.Equal("ReferenceError", (await CodeAsync(vm, "javascript", "nothing")).Error!.Name);

        await CodeAsync(vm, "bash", "x=42; cd /tmp; f() { echo \"f $x\"; }");
        var bash = await CodeAsync(vm, "bash", "f; pwd; false");
        Assert.Equal("f 42\n/tmp\n", bash.Stdout);
        Assert.Equal(1, bash.Exited.ExitCode);
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
    public async Task The_disk_outlives_its_machine()
    {
        var spec = fixture.Spec();
        await using (var first = await fixture.Backend.StartAsync(spec, Ct))
        {
            await ShellAsync(first, "echo kept > $HOME/file; sync");
        }

        await using var second = await fixture.Backend.StartAsync(spec with { Owner = spec.Owner with { VmId = "again", Generation = 2 } }, Ct);
        Assert.Equal("kept\n", (await ShellAsync(second, "cat $HOME/file")).Stdout);
    }

    [Fact]
    public async Task Disposing_leaves_nothing_but_the_disk()
    {
        var spec = fixture.Spec();
        var vm = await fixture.Backend.StartAsync(spec, Ct);
        var directory = Path.Combine(fixture.Options.RuntimeRoot, fixture.Options.HostId, "vm-" + spec.Owner.VmId);
        Assert.True(Directory.Exists(directory));

        await vm.DisposeAsync();

        Assert.False(Directory.Exists(directory));
        Assert.Empty(CgroupsOf(spec.Owner.VmId));
        Assert.True((await vm.Exited).Expected);
        Assert.True(File.Exists(spec.DiskPath));
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

    [Fact]
    public async Task A_cancelled_start_leaves_nothing()
    {
        var spec = fixture.Spec();
        using var cancel = new CancellationTokenSource();
        var start = fixture.Backend.StartAsync(spec, cancel.Token);
        var directory = Path.Combine(fixture.Options.RuntimeRoot, fixture.Options.HostId, "vm-" + spec.Owner.VmId);
        while (!Directory.Exists(directory) && !start.IsCompleted)
        {
            await Task.Delay(1, Ct);
        }

        await cancel.CancelAsync();

        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => start);
        Assert.False(Directory.Exists(directory));
        Assert.Empty(CgroupsOf(spec.Owner.VmId));
    }

    [Fact]
    public async Task Leftovers_without_a_lease_are_reaped_and_others_are_not()
    {
        var orphan = await fixture.Backend.StartAsync(fixture.Spec(), Ct);
        await using var live = await fixture.Backend.StartAsync(fixture.Spec(), Ct);

        var reaped = await fixture.Backend.ReapAsync(o => o == live.Owner, Ct);

        Assert.Contains(reaped, r => r.Owner == orphan.Owner);
        Assert.DoesNotContain(reaped, r => r.Owner == live.Owner);
        Assert.False((await orphan.Exited.WaitAsync(TimeSpan.FromSeconds(30), Ct)).Expected);
        Assert.Equal("yes\n", (await ShellAsync(live, "echo yes")).Stdout);
        await orphan.DisposeAsync();
    }

    [Theory]
    [InlineData(0, 384, 256)]
    [InlineData(1, 16, 256)]
    [InlineData(1, 384, 1)]
    [InlineData(1000, 384, 256)]
    public async Task Absurd_sizes_are_refused(int vcpus, int memory, int disk)
    {
        var spec = fixture.Spec() with { Vcpus = vcpus, MemoryMiB = memory, DiskMiB = disk };

        await Assert.ThrowsAsync<IsolationException>(() => fixture.Backend.StartAsync(spec, Ct));
        Assert.False(File.Exists(spec.DiskPath));
    }

    private string[] CgroupsOf(string vmId) =>
        Directory.Exists("/sys/fs/cgroup") ? [.. new[] { "memory", "cpu", "pids", "" }.Select(c => Path.Combine("/sys/fs/cgroup", c, "sandbox", fixture.Options.HostId, vmId)).Where(Directory.Exists)] : [];
}
