using System.Diagnostics;
using System.Text.Json;
using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Firecracker.Tests.Fixture;
using Sandbox.Isolation.Hosting;
using Sandbox.Isolation.TestSupport;
using Xunit;

namespace Sandbox.Isolation.Firecracker.Tests;

/// <summary>Machines from their start to their end, through the double, with a real agent behind its socket device.</summary>
public sealed class MicroVmTests(DoubleFixture fixture) : IClassFixture<DoubleFixture>
{
    private static CancellationToken Ct => TestContext.Current.CancellationToken;

    [Fact]
    public async Task A_machine_boots_runs_a_command_and_leaves_nothing()
    {
        fixture.Break();
        var spec = fixture.Spec();
        await using (var vm = await fixture.Backend.StartAsync(spec, Ct))
        {
            Assert.Equal("boot", vm.StartReport.Method);
            Assert.Equal("kvm", vm.StartReport.Accelerator);
            Assert.Equal("42\n", (await GuestRuns.ShellAsync(vm, "echo $((6*7))", cancellationToken: Ct)).Stdout);
            Assert.False(vm.Exited.IsCompleted);
        }

        Assert.Equal(
            ["PUT /machine-config", "PUT /boot-source", "PUT /drives/root", "PUT /drives/data", "PUT /vsock", "PUT /entropy", "PUT /actions"], fixture.CallsOf(spec.Owner.VmId));
        Assert.True(File.Exists(spec.DiskPath));
        fixture.RequireNothingLeft();
    }

    [Fact]
    public async Task What_a_machine_is_told_is_what_the_options_and_its_sizes_say()
    {
        fixture.Break();
        var backend = fixture.Make(fixture.Options with { RootDriveLimits = null, DataDriveLimits = new DriveLimits(1000, null, 5000) });
        var spec = fixture.Spec() with { Vcpus = 3 };
        await using (await backend.StartAsync(spec, Ct))
        {
        }

        var machine = BodyOf(spec, "/machine-config");
        Assert.Equal((3, 128, true), (machine.GetProperty("vcpu_count").GetInt32(), machine.GetProperty("mem_size_mib").GetInt32(), machine.GetProperty("track_dirty_pages").GetBoolean()));
        var root = BodyOf(spec, "/drives/root");
        Assert.True(root.GetProperty("is_read_only").GetBoolean() && root.GetProperty("is_root_device").GetBoolean());
        Assert.False(root.TryGetProperty("rate_limiter", out _));
        var limiter = BodyOf(spec, "/drives/data").GetProperty("rate_limiter");
        Assert.Equal("""{"size":1000,"refill_time":1000,"one_time_burst":5000}""", limiter.GetProperty("bandwidth").GetRawText());
        Assert.False(limiter.TryGetProperty("ops", out _));
        Assert.Contains("sandbox.vsock=1000", BodyOf(spec, "/boot-source").GetProperty("boot_args").GetString(), StringComparison.Ordinal);
        Assert.DoesNotContain(fixture.CallsOf(spec.Owner.VmId), c => c.Contains("mmds", StringComparison.Ordinal) || c.Contains("network", StringComparison.Ordinal) || c.Contains("balloon", StringComparison.Ordinal));
    }

    [Fact]
    public async Task As_root_each_machine_is_in_a_jail_with_a_user_a_network_and_limits_of_its_own()
    {
        Assert.SkipUnless(DoubleFixture.IsRoot, "The jailer needs root.");
        fixture.Break();
        var (first, second) = (fixture.Spec(), fixture.Spec());
        await using var one = await fixture.Backend.StartAsync(first, Ct);
        await using var two = await fixture.Backend.StartAsync(second, Ct);

        var (user, other) = (UserOf(first), UserOf(second));
        Assert.True(user >= fixture.Options.FirstUserId && other >= fixture.Options.FirstUserId && user != other, $"{user} and {other}");
        var jailer = ProgramOf(first, "jailer");
        var arguments = jailer.GetProperty("Arguments").EnumerateArray().Select(a => a.GetString()!).ToList();
        Assert.Equal(first.Owner.VmId, ValueOf(arguments, "--id"));
        Assert.Equal(fixture.Binary, ValueOf(arguments, "--exec-file"));
        Assert.Equal(ValueOf(arguments, "--uid"), ValueOf(arguments, "--gid"));
        Assert.NotEqual(new FileInfo("/proc/self/ns/net").LinkTarget, jailer.GetProperty("NetworkNamespace").GetString());
        Assert.Equal(["--", "--api-sock", "api"], arguments.TakeLast(3));

        // The first process of its namespace is the shell that placed its files.
        Assert.InRange(jailer.GetProperty("ProcessId").GetInt32(), 2, 20);
        Assert.Equal(Path.Combine(fixture.WorkRoot, first.Owner.VmId, "firecracker", first.Owner.VmId, "root"), ProgramOf(first, "firecracker").GetProperty("Directory").GetString());
        Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute, File.GetUnixFileMode(fixture.WorkRoot));
    }

    [Fact]
    public async Task The_disk_of_a_jailed_machine_is_its_users_while_it_runs_and_roots_before_and_after()
    {
        Assert.SkipUnless(DoubleFixture.IsRoot, "The jailer needs root.");
        fixture.Break();
        var spec = fixture.Spec();
        await using (await fixture.Backend.StartAsync(spec, Ct))
        {
            Assert.Equal(UserOf(spec), await OwnerOfAsync(spec.DiskPath));
        }

        Assert.Equal(0u, await OwnerOfAsync(spec.DiskPath));
    }

    [Fact]
    public async Task Without_a_jail_Firecracker_itself_is_started_in_the_machines_root()
    {
        fixture.Break();
        var backend = fixture.Make(fixture.Options with { AllowUnjailed = true });
        Assert.Contains((await backend.ProbeAsync(Ct)).Warnings, w => w.Contains("without its jailer", StringComparison.Ordinal));
        var spec = fixture.Spec();
        await using (var vm = await backend.StartAsync(spec, Ct))
        {
            Assert.Equal("here\n", (await GuestRuns.ShellAsync(vm, "echo here", cancellationToken: Ct)).Stdout);
        }

        Assert.DoesNotContain(fixture.LogOf(spec.Owner.VmId), e => e.TryGetProperty("Program", out var p) && p.GetString() == "jailer");
        Assert.Equal(["--id", spec.Owner.VmId, "--api-sock", "api"], ProgramOf(spec, "firecracker").GetProperty("Arguments").EnumerateArray().Select(a => a.GetString()));
        fixture.RequireNothingLeft();
    }

    [Theory]
    [InlineData("refuse PUT /machine-config", "PUT /machine-config (400): refused, as asked")]
    [InlineData("refuse PUT /drives/data", "PUT /drives/data (400): refused, as asked")]
    [InlineData("refuse PUT /actions", "PUT /actions (400): refused, as asked")]
    [InlineData("die PUT /vsock", "panicked, as asked")]
    [InlineData("panic", "Kernel panic - not syncing: as asked")]
    public async Task A_start_that_fails_says_what_was_refused_and_leaves_nothing(string fault, string said)
    {
        await fixture.Backend.ProbeAsync(Ct);
        fixture.Break(fault);

        var e = await Assert.ThrowsAsync<IsolationException>(() => fixture.Backend.StartAsync(fixture.Spec(), Ct));

        Assert.Contains(said, e.Message, StringComparison.Ordinal);
        Assert.DoesNotContain('\a', e.Message);
        fixture.RequireNothingLeft();
    }

    [Fact]
    public async Task A_guest_that_never_answers_is_given_up_at_the_deadline()
    {
        await fixture.Backend.ProbeAsync(Ct);
        fixture.Break("deaf");
        var backend = fixture.Make(fixture.Options with { BootDeadline = TimeSpan.FromSeconds(1.5) });

        var e = await Assert.ThrowsAsync<IsolationException>(() => backend.StartAsync(fixture.Spec(), Ct));

        Assert.Contains("did not answer within 1.5 s", e.Message, StringComparison.Ordinal);
        fixture.RequireNothingLeft();
    }

    [Fact]
    public async Task A_start_that_is_cancelled_leaves_nothing()
    {
        await fixture.Backend.ProbeAsync(Ct);
        fixture.Break("hang PUT /boot-source");
        using var cancel = CancellationTokenSource.CreateLinkedTokenSource(Ct);
        var spec = fixture.Spec();
        var starting = fixture.Backend.StartAsync(spec, cancel.Token);
        while (!fixture.CallsOf(spec.Owner.VmId).Contains("PUT /machine-config"))
        {
            await Task.Delay(5, Ct);
        }

        await cancel.CancelAsync();

        await Assert.ThrowsAsync<OperationCanceledException>(() => starting);
        fixture.RequireNothingLeft();
    }

    [Fact]
    public async Task A_machine_that_dies_is_noticed_and_says_how()
    {
        fixture.Break();
        var spec = fixture.Spec();
        await using var vm = await fixture.Backend.StartAsync(spec, Ct);
        Kill(await MonitorOfAsync(spec));

        var exit = await vm.Exited.WaitAsync(TimeSpan.FromSeconds(10), Ct);

        Assert.False(exit.Expected);
        Assert.Contains("killed by signal 9", exit.Reason, StringComparison.Ordinal);
        var e = await Assert.ThrowsAsync<IsolationException>(() => vm.ContinueAsync(Ct));
        Assert.Contains("dead", e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_jailed_machine_dies_with_the_process_that_watches_over_it()
    {
        Assert.SkipUnless(DoubleFixture.IsRoot, "The jailer needs root.");
        fixture.Break();
        var spec = fixture.Spec();
        await using var vm = await fixture.Backend.StartAsync(spec, Ct);
        var monitor = await MonitorOfAsync(spec);

        // As the kernel does when this program dies.
        Kill(RecordOf(spec)!.Process!.Pid);

        while (ProcessIdentity.Of(monitor) is not null)
        {
            await Task.Delay(5, Ct);
        }
    }

    [Fact]
    public async Task The_reaper_takes_what_no_lease_claims_and_nothing_else()
    {
        fixture.Break();
        var (lost, kept) = (fixture.Spec(), fixture.Spec());
        await using var one = await fixture.Backend.StartAsync(lost, Ct);
        await using var two = await fixture.Backend.StartAsync(kept, Ct);
        Directory.CreateDirectory(Path.Combine(fixture.WorkRoot, "gone"));
        File.WriteAllText(Path.Combine(fixture.WorkRoot, "shared_0123"), "");

        // Another one, as after a crash: it knows only what is in the file system.
        var successor = fixture.Make(fixture.Options);
        var reaped = await successor.ReapAsync(o => o == kept.Owner, Ct);

        Assert.Equal([lost.Owner.VmId, "gone", "shared_0123"], reaped.Select(r => r.Owner.VmId));
        Assert.Equal(lost.Owner, reaped[0].Owner);
        await one.Exited.WaitAsync(TimeSpan.FromSeconds(10), Ct);
        Assert.Equal("alive\n", (await GuestRuns.ShellAsync(two, "echo alive", cancellationToken: Ct)).Stdout);
        Assert.Equal([kept.Owner.VmId], Directory.GetDirectories(fixture.WorkRoot).Select(d => Path.GetFileName(d)!));
        Assert.Empty(await successor.ReapAsync(o => o == kept.Owner, Ct));
    }

    [Fact]
    public async Task Two_machines_of_one_name_are_refused_and_the_first_goes_on()
    {
        fixture.Break();
        var spec = fixture.Spec();
        await using var vm = await fixture.Backend.StartAsync(spec, Ct);

        var e = await Assert.ThrowsAsync<IsolationException>(() => fixture.Backend.StartAsync(spec with { DiskPath = spec.DiskPath + "2" }, Ct));

        Assert.Contains("already", e.Message, StringComparison.Ordinal);
        Assert.Equal("on\n", (await GuestRuns.ShellAsync(vm, "echo on", cancellationToken: Ct)).Stdout);
    }

    private static string ValueOf(List<string> arguments, string name) => arguments[arguments.IndexOf(name) + 1];

    private JsonElement BodyOf(MicroVmSpec spec, string path) =>
        fixture.LogOf(spec.Owner.VmId).First(e => e.TryGetProperty("Path", out var p) && p.GetString() == path && e.GetProperty("Method").GetString() == "PUT").GetProperty("Body");

    private JsonElement ProgramOf(MicroVmSpec spec, string program) =>
        fixture.LogOf(spec.Owner.VmId).First(e => e.TryGetProperty("Program", out var p) && p.GetString() == program);

    private uint UserOf(MicroVmSpec spec) => ProgramOf(spec, "firecracker").GetProperty("User").GetUInt32();

    private OwnerRecord? RecordOf(MicroVmSpec spec) => new VmDirectory(fixture.RunRoot, spec.Owner.VmId).Load();

    /// <summary>The process that is the double, whoever watches over it.</summary>
    private async Task<int> MonitorOfAsync(MicroVmSpec spec)
    {
        while (true)
        {
            foreach (var directory in Directory.GetDirectories("/proc").Where(d => char.IsAsciiDigit(Path.GetFileName(d)[0])))
            {
                try
                {
                    var line = await File.ReadAllTextAsync(Path.Combine(directory, "cmdline"), Ct);
                    if (line.StartsWith("dotnet\0exec", StringComparison.Ordinal) && line.Contains($"--id\0{spec.Owner.VmId}\0", StringComparison.Ordinal) && line.Contains(fixture.Folder, StringComparison.Ordinal))
                    {
                        return int.Parse(Path.GetFileName(directory));
                    }
                }
                catch (IOException)
                {
                    // It ended meanwhile.
                }
            }
        }
    }

    private static void Kill(int pid)
    {
        using var process = Process.GetProcessById(pid);
        process.Kill();
    }

    private static async Task<uint> OwnerOfAsync(string path)
    {
        using var stat = Process.Start(new ProcessStartInfo("stat", ["-c", "%u", path]) { RedirectStandardOutput = true })!;
        return uint.Parse(await stat.StandardOutput.ReadToEndAsync(Ct));
    }
}
